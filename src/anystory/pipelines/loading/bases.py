"""What kind of model a base is, without reading its weights: SDXL and its fine-tunes pass, others are refused."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from anystory.pipelines.loading.headers import read_headers

__all__ = ["UNET_BY_ITSELF", "check_index", "check_single_file", "kind_of_index", "kind_of_keys"]

EXPECTED = "expected SDXL or a fine-tune of it"

UNET_BY_ITSELF = "a U-Net by itself"

_PIPELINES = {
    "StableDiffusion3": "Stable Diffusion 3",
    "StableDiffusionXL": "SDXL",
    "StableDiffusion": "Stable Diffusion 1.x or 2.x",
    "Flux2Klein": "FLUX.2 klein",
    "Flux2": "FLUX.2",
    "Flux": "FLUX",
    "AnyStoryFlux2Klein": "an AnyStory pipeline for FLUX.2 klein",
    "AnyStoryFlux": "an AnyStory pipeline for FLUX.1",
    "AnyStory": "an AnyStory pipeline",
}
"""{beginning of a pipeline's class name: the model}; the first match counts."""

_FILES = (
    ("double_blocks.", "FLUX"),
    ("joint_blocks.", "Stable Diffusion 3"),
    ("cond_stage_model.", "Stable Diffusion 1.x or 2.x"),
    ("conditioner.embedders.1.", "SDXL"),
    ("conditioner.embedders.0.", "the SDXL refiner"),
    ("lora", "a LoRA"),
    ("ip_adapter.", "an IP-Adapter"),
    ("cross_projections.", "an AnyStory adapter"),
    ("model.diffusion_model.", UNET_BY_ITSELF),
)
"""(part of a key of a single file, the model); the first match counts."""

_SINGLE_FILE_PARTS = {
    "unet": ("model.diffusion_model.", "the U-Net"),
    "text_encoder": ("conditioner.embedders.0.transformer.", "the first text encoder"),
    "text_encoder_2": ("conditioner.embedders.1.model.", "the second text encoder"),
    "vae": ("first_stage_model.", "the autoencoder"),
}
"""{component: (how its keys begin in the original layout of SDXL, its name)}."""


def kind_of_index(index: Mapping[str, Any]) -> str:
    """The kind of model of a diffusers pipeline's `model_index.json`, in words."""
    name = str(index.get("_class_name") or "a folder whose model_index.json names no pipeline")
    return next((kind for start, kind in _PIPELINES.items() if name.startswith(start)), name)


def kind_of_keys(keys: Iterable[str]) -> str:
    """The kind of model of a single file's keys, in words."""
    keys = list(keys)
    return next((kind for part, kind in _FILES if any(part in key for key in keys)), "no model that we know")


def check_index(index: Mapping[str, Any], source: str, given: Collection[str] = ()) -> None:
    """Refuse a diffusers pipeline that is not SDXL's kind, before its weights are loaded.

    Args:
        index: its `model_index.json`.
        source: what the caller named.
        given: components that the caller passes; the index need not have them.

    Raises:
        ValueError: there is no U-Net, or no text encoder of SDXL's kind.
    """

    def has(component: str, class_name: str | None = None) -> bool:
        entry = index.get(component) or (None, None)
        return component in given or (entry[1] == class_name if class_name else entry[1] is not None)

    if has("unet", "UNet2DConditionModel") and has("text_encoder_2"):
        return
    raise ValueError(f"{source} is {kind_of_index(index)}, whose layers an adapter for SDXL does not fit: {EXPECTED}")


def check_single_file(
    path: str | os.PathLike[str], parts: Collection[str] = tuple(_SINGLE_FILE_PARTS), given: Collection[str] = ()
) -> None:
    """Refuse a file that is not SDXL in its original layout, by its keys alone.

    Args:
        path: the file.
        parts: components to load from it.
        given: components that the caller passes; they need not be in the file.

    Raises:
        ValueError: another kind of file, or one that lacks a part.
    """
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"{path}: single files must be .safetensors; pickles (.ckpt, .pt, .bin) are not loaded")
    keys = read_headers([Path(path)])
    wanted = {name: _SINGLE_FILE_PARTS[name] for name in parts if name not in given}
    missing = {name: what for name, (start, what) in wanted.items() if not any(key.startswith(start) for key in keys)}
    if not missing:
        return
    if len(missing) == len(wanted) or (kind := kind_of_keys(keys)) not in ("SDXL", UNET_BY_ITSELF):
        raise ValueError(f"{path} is {kind_of_keys(keys)}, not SDXL in its original single-file layout: {EXPECTED}")
    names = ", ".join(f"{name}=…" for name in missing)
    raise ValueError(f"{path} ({kind}) lacks {' and '.join(missing.values())}: pass {names}")
