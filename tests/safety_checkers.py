"""A tiny safety checker of diffusers' own class that knows one picture; a watermark read."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from diffusers.pipelines.stable_diffusion_xl.watermark import WATERMARK_BITS
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPImageProcessor, CLIPTextConfig, CLIPVisionConfig

__all__ = ["matching_bits", "write_safety_checker"]

_SIDE = 16
_ALIKE = 0.998
"""Cosine above which a picture is the one that it knows; diffusers rounds to three digits."""


def write_safety_checker(folder: Path, bad: Image.Image, *, leave_out: str | None = None) -> Path:
    """Write one with random weights.

    Args:
        folder: Where to.
        bad: What it withholds: pictures whose embedding is this one's.
        leave_out: A weight that the file lacks.
    """
    small: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    vision = CLIPVisionConfig(**small, image_size=_SIDE, patch_size=4, projection_dim=16)
    text = CLIPTextConfig(**small, vocab_size=64, projection_dim=16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=16)
        checker = StableDiffusionSafetyChecker(config)
        for name, weight in checker.named_parameters():
            if weight.ndim > 1:  # the pixels count for more than where they are: other pictures lie elsewhere
                torch.nn.init.normal_(weight, std=1 if "patch_embedding" in name else 0.2)
    size = {"height": _SIDE, "width": _SIDE}
    extractor = CLIPImageProcessor(size=size, crop_size=size, do_center_crop=False, resample=Image.Resampling.BICUBIC)
    pixels = extractor(bad, return_tensors="pt").pixel_values
    with torch.no_grad():
        embedding = checker.visual_projection(checker.vision_model(pixels)[1])
        checker.concept_embeds_weights.fill_(2.0)  # no cosine is larger: these concepts are never found
        checker.special_care_embeds_weights.fill_(2.0)
        checker.concept_embeds[0] = embedding[0]
        checker.concept_embeds_weights[0] = _ALIKE
    checker.save_pretrained(folder)
    extractor.save_pretrained(folder)
    if leave_out is not None:
        path = folder / "model.safetensors"
        kept = {name: value for name, value in load_file(path).items() if name != leave_out}
        save_file(kept, path, metadata={"format": "pt"})
    return folder


def matching_bits(image: Image.Image) -> float:
    """The share of Stable Diffusion XL's watermark that a picture carries; of any picture about a half."""
    bgr = np.asarray(image.convert("RGB"), np.float32)[..., ::-1]  # as bytes the library reads far less
    read = import_module("imwatermark").WatermarkDecoder("bits", len(WATERMARK_BITS)).decode(bgr.copy(), "dwtDct")
    return float(np.mean(np.asarray(read) == WATERMARK_BITS))
