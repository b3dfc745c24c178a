"""A tiny FLUX.1 on disk: the stock model, an adapter with its SigLIP, and both in one folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxPipeline
from safetensors.torch import save_file

from models.flux.official_tiny import build_checkpoint, build_transformer
from pipelines.flux.tiny import build_pipeline, pipeline

__all__ = ["CALL", "FluxFiles", "write_flux_files", "write_published_files"]

CALL = {"height": 64, "width": 96, "num_inference_steps": 4}
"""The tiny model's own values."""


@dataclass(frozen=True)
class FluxFiles:
    """Where everything lies."""

    base: Path
    """A stock FLUX.1."""
    adapter: Path
    """As `anystory adapter convert` writes it: adapter, SigLIP and its processor, each in its folder."""
    whole: Path
    """All of it in one folder, with values of its own for a call."""
    schnell: Path
    """A stock model like FLUX.1-schnell, without guidance embedding."""


def write_flux_files(folder: Path) -> FluxFiles:
    """Everything that a first picture needs."""
    pipe = pipeline()
    found = FluxFiles(folder / "base", folder / "adapter", folder / "whole", folder / "schnell")
    pipe.save_pretrained(found.whole)
    set_entries(found.whole / "model_index.json", default_call=CALL)
    ours = ("adapter", "image_encoder", "feature_extractor")
    for part in ours:
        shutil.copytree(found.whole / part, found.adapter / part)
    for place, whole in ((found.base, pipe), (found.schnell, build_pipeline(schnell=True))):
        stock = {name: part for name, part in whole.components.items() if name not in ours}
        FluxPipeline(**stock).save_pretrained(place)
    return found


def write_published_files(folder: Path, files: FluxFiles) -> None:
    """`anystory_flux.bin` as the authors published it, and `FLUX.1-Redux-dev`."""
    checkpoint = build_checkpoint(build_transformer(), lora_bias=True)
    torch.save(checkpoint, folder / "anystory_flux.bin")
    redux = folder / "FLUX.1-Redux-dev"
    (redux / "image_embedder").mkdir(parents=True)
    layers = {name: part for name, part in checkpoint["redux"].items() if name.startswith(("redux_up.", "redux_down."))}
    save_file(layers, redux / "image_embedder" / "diffusion_pytorch_model.safetensors")
    shutil.copytree(files.adapter / "image_encoder", redux / "image_encoder")


def set_entries(path: Path, **entries: Any) -> None:
    """Change entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
