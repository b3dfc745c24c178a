"""FLUX.2 klein on disk, described by configurations and headers: pipelines, transformers by themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from anystory.engine.backends.base import Backend
from anystory.engine.backends.description import Description, describe_pipeline
from anystory.engine.backends.flux_description import describe_transformer, layout_of_blocks
from anystory.input_files import read_object
from anystory.pipelines.loading.headers import tensors_of

__all__ = ["CLASS_OF_TRANSFORMER", "describe"]

CLASS_OF_TRANSFORMER = "Flux2Transformer2DModel"
_AS_WIDE = ("attn.to_q", "attn.to_out")
"""Layers of a double and of a single block."""


def describe(source: str, place: Path, backend: Backend) -> Description | None:
    """See `Backend.describe`.

    Args:
        source: What the caller named.
        place: Where it lies.
        backend: FLUX.2 klein's: which models it draws with.
    """
    if place.is_file():
        return None
    if not (place / "model_index.json").is_file():
        if read_object(place / "config.json").get("_class_name") != CLASS_OF_TRANSFORMER:
            return None
        return describe_transformer(source, place, CLASS_OF_TRANSFORMER, *_AS_WIDE)
    index = read_object(place / "model_index.json")
    if (index.get("transformer") or [None])[-1] != CLASS_OF_TRANSFORMER:
        return None
    drawn = backend.draws(place)
    found = describe_pipeline(
        source,
        place,
        index,
        drawn_by=backend.name if drawn else "",
        layout=layout_of_blocks(tensors_of(place / "transformer")[0], *_AS_WIDE),
        adapter_layout=lambda adapter: "",
        fitted="FLUX.2",
        refused="not a base for AnyStory: only the klein models are",
    )
    return replace(found, fits="subjects as it is: it needs no adapter") if drawn else found
