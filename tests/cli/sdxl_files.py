"""A tiny SDXL on disk in every form that people have, IP-Adapter-Plus for it, and an image encoder of 257 tokens."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from models.saved.public_files import ip_adapter_plus, write_ip_adapter
from pipelines import original_layout


@dataclass(frozen=True)
class SdxlFiles:
    """Where everything lies."""

    base: Path
    """diffusers folder, with the fp16 variant beside the plain weights."""
    config: Path
    """Its configuration files only."""
    single: Path
    """The same model as one file in the original layout."""
    ip_adapter: Path
    """.safetensors; the .bin lies beside it."""
    image_encoder: Path


def write_sdxl_files(folder: Path) -> SdxlFiles:
    """Everything that `anystory adapter init` and a first picture need."""
    parts = original_layout.components()
    pipe = StableDiffusionXLPipeline(
        **{name: part for name, part in parts.items() if name != "adapter"}, add_watermarker=False
    )
    base = folder / "sdxl"
    pipe.save_pretrained(base)
    config = folder / "config"
    shutil.copytree(base, config, ignore=shutil.ignore_patterns("*.safetensors"))
    single = original_layout.write_single_file(parts, folder / "sd_xl.safetensors")
    public = ip_adapter_plus(parts["unet"], clip_dim=16, hidden=24, heads=1, queries=16)
    published = write_ip_adapter(public, folder / "ip-adapter-plus_sdxl_vit-h.safetensors")
    write_ip_adapter(public, folder / "ip-adapter-plus_sdxl_vit-h.bin")
    with torch.random.fork_rng():
        torch.manual_seed(6)
        encoder = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32,
                patch_size=2, projection_dim=16,
            )
        )  # fmt: skip
    encoder.save_pretrained(folder / "image_encoder")
    pipe.to(torch.float16).save_pretrained(base, variant="fp16")
    return SdxlFiles(base, config, single, published, folder / "image_encoder")
