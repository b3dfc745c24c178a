"""FLUX.1 on disk, described by configurations and headers: pipelines, transformers by themselves, adapters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anystory.engine.backends.base import Backend
from anystory.engine.backends.description import Description, describe_pipeline
from anystory.input_files import read_object
from anystory.pipelines.loading.headers import Tensors, part_of, parts_by_prefix, tensors_of, weight_files

__all__ = ["CLASS_OF_ADAPTER", "CLASS_OF_TRANSFORMER", "describe", "describe_transformer", "layout_of_blocks"]

CLASS_OF_ADAPTER = "FluxSubjectAdapter"
CLASS_OF_TRANSFORMER = "FluxTransformer2DModel"
_SIZES = ("reference_size", "redux_dim", "text_dim", "embedder_rank")
"""What `models info` shows of an adapter's configuration; the shapes of its terms are hundreds."""


def describe(source: str, place: Path, backend: Backend) -> Description | None:
    """See `Backend.describe`.

    Args:
        source: What the caller named.
        place: Where it lies.
        backend: FLUX.1's: which models it draws with.
    """
    if place.is_file():
        return None
    if (place / "model_index.json").is_file():
        return _describe_pipeline(source, place, backend)
    config = read_object(place / "config.json")
    if config.get("_class_name") == CLASS_OF_ADAPTER:
        return _describe_adapter(source, place, config)
    if config.get("_class_name") == CLASS_OF_TRANSFORMER:
        return describe_transformer(source, place, CLASS_OF_TRANSFORMER, "attn.to_q")
    return None


def describe_transformer(source: str, place: Path, kind: str, *layers: str) -> Description:
    """A transformer's folder; `kind` is its class, `layers` as for `layout_of_blocks`."""
    tensors, size = tensors_of(place)
    part = part_of(place.name, tensors, size, kind)
    return Description(source=source, path=place, kind=kind, parts=(part,), layout=layout_of_blocks(tensors, *layers))


def _describe_pipeline(source: str, place: Path, backend: Backend) -> Description | None:
    index = read_object(place / "model_index.json")
    if (index.get("transformer") or [None])[-1] != CLASS_OF_TRANSFORMER:
        return None
    return describe_pipeline(
        source,
        place,
        index,
        drawn_by=backend.name if backend.draws(place) else "",
        layout=layout_of_blocks(tensors_of(place / "transformer")[0], "attn.to_q"),
        adapter_layout=lambda adapter: layout_of_blocks(tensors_of(adapter)[0], "query.lora_B"),
        fitted="FLUX.1",
        refused="not a base for AnyStory: it does more than draw from a prompt",
    )


def _describe_adapter(source: str, place: Path, config: Mapping[str, Any]) -> Description:
    tensors, _ = tensors_of(place)
    layout = layout_of_blocks(tensors, "query.lora_B")
    return Description(
        source=source,
        path=place,
        kind="AnyStory adapter for FLUX.1",
        parts=parts_by_prefix(tensors, lambda key: key.partition(".")[0]),
        layout=layout,
        fits=f"FLUX.1 with {layout} and texts {config.get('text_dim')} wide; SigLIP {config.get('redux_dim')} wide",
        sizes={name: config.get(name) for name in _SIZES},
        variants=tuple(sorted(weight_files(place).keys() - {""})),
    )


def layout_of_blocks(tensors: Tensors, *layers: str) -> str:
    """The blocks of a transformer, by layers of which each block has one that is as wide as it is."""
    names = "|".join(map(re.escape, layers))
    of_block = re.compile(rf"(?:map_terms\.)?(single_)?transformer_blocks\.\d+\.(?:{names})\.weight")
    found = [(match[1], shape[0]) for key, (_, shape) in tensors.items() if (match := of_block.fullmatch(key))]
    single = sum(kind is not None for kind, _ in found)
    return f"{len(found) - single} double and {single} single blocks, {found[0][1]} wide" if found else ""
