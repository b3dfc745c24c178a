"""Models of SDXL's family on disk, described by their configurations and headers: pipelines, adapters, single files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anystory.engine.backends.base import Backend
from anystory.engine.backends.description import Description, describe_pipeline
from anystory.input_files import read_object
from anystory.models.saved.families import describe_counts
from anystory.pipelines.loading.bases import UNET_BY_ITSELF, kind_of_keys
from anystory.pipelines.loading.headers import Tensors, part_of, parts_by_prefix, read_headers, tensors_of, weight_files

__all__ = ["describe"]

_CLASS_OF_ADAPTER = "SubjectAdapter"
_CLASS_OF_UNET = "UNet2DConditionModel"
_SINGLE_FILE_PARTS = {
    "model.diffusion_model": "unet",
    "first_stage_model": "vae",
    "conditioner.embedders.0": "text_encoder",
    "conditioner.embedders.1": "text_encoder_2",
}
"""How the keys of a part begin in SDXL's original layout, and the part's name in diffusers."""


def describe(source: str, place: Path, backend: Backend) -> Description | None:
    """See `Backend.describe`.

    Args:
        source: What the caller named.
        place: Where it lies.
        backend: SDXL's: which models it draws with.
    """
    if place.is_file():
        return _describe_file(source, place, backend)
    if (place / "model_index.json").is_file():
        return _describe_pipeline(source, place, backend)
    config = read_object(place / "config.json")
    if config.get("_class_name") == _CLASS_OF_ADAPTER:
        return _describe_adapter(source, place, config)
    if config.get("_class_name") == _CLASS_OF_UNET:
        tensors, size = tensors_of(place)
        part = part_of(place.name, tensors, size, _CLASS_OF_UNET)
        return Description(source=source, path=place, kind=_CLASS_OF_UNET, parts=(part,), layout=_unet_layout(tensors))
    return None


def _describe_pipeline(source: str, place: Path, backend: Backend) -> Description | None:
    index = read_object(place / "model_index.json")
    if "unet" not in index:
        return None
    return describe_pipeline(
        source,
        place,
        index,
        drawn_by=backend.name if backend.draws(place) else "",
        layout=_unet_layout(tensors_of(place / "unet")[0]),
        adapter_layout=lambda adapter: _adapter_layout(tensors_of(adapter)[0], read_object(adapter / "config.json")),
        fitted="U-Nets",
        refused="not a base for AnyStory's SDXL adapters",
    )


def _describe_adapter(source: str, place: Path, config: Mapping[str, Any]) -> Description:
    variants = weight_files(place)
    tensors, _ = tensors_of(place)
    layout = _adapter_layout(tensors, config)
    sizes = config.get("adapter_config") or {}
    return Description(
        source=source,
        path=place,
        kind="AnyStory adapter",
        parts=parts_by_prefix(tensors, lambda key: key.partition(".")[0]),
        layout=layout,
        fits=f"U-Nets with {layout}; image encoders with {sizes.get('clip_tokens')} tokens of width"
        f" {sizes.get('clip_dim')}",
        sizes=sizes,
        variants=tuple(sorted(variants.keys() - {""})),
    )


def _describe_file(source: str, place: Path, backend: Backend) -> Description | None:
    tensors = read_headers([place])
    kind, drawn_by = kind_of_keys(tensors), ""
    if kind == "SDXL":
        drawn_by = backend.name
        layout = _unet_layout(tensors)
        parts = parts_by_prefix(tensors, _single_file_part)
        fits = f"adapters for U-Nets with {layout}, through from_single_file"
    elif kind == UNET_BY_ITSELF:
        layout, parts = _unet_layout(tensors), parts_by_prefix(tensors, _single_file_part)
        fits = f"`anystory adapter init`, as a base: its U-Net has {layout}"
    elif "image_proj.latents" in tensors:
        keys = [shape for key, (_, shape) in tensors.items() if key.endswith("to_k_ip.weight")]
        kind, parts = "IP-Adapter-Plus", parts_by_prefix(tensors, lambda key: key.partition(".")[0])
        layout = describe_counts(len(keys), keys[0][1]) if keys else ""
        fits = f"`anystory adapter init` with a base whose U-Net has {layout}"
    else:
        return None
    return Description(source=source, path=place, kind=kind, parts=parts, layout=layout, fits=fits, backend=drawn_by)


def _single_file_part(key: str) -> str:
    return next((part for start, part in _SINGLE_FILE_PARTS.items() if key.startswith(f"{start}.")), "other")


def _unet_layout(tensors: Tensors) -> str:
    """The cross-attentions of a U-Net, in diffusers' or in the original names."""
    widths = [shape[1] for key, (_, shape) in tensors.items() if key.endswith("attn2.to_k.weight")]
    return describe_counts(len(widths), widths[0]) if widths else ""


def _adapter_layout(tensors: Tensors, config: Mapping[str, Any]) -> str:
    layers = sum(key.startswith("cross_projections.") and key.endswith("to_k.weight") for key in tensors)
    width = (config.get("unet_config") or {}).get("cross_attention_dim") or 0
    return describe_counts(layers, width[0] if isinstance(width, list) else width)
