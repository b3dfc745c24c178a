"""What a model on disk is, by its configuration and headers. No torch is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anystory.pipelines.loading.bases import kind_of_index
from anystory.pipelines.loading.headers import ModelPart, part_of, tensors_of, weight_files

__all__ = ["Description", "describe_pipeline", "pipeline_parts"]


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is known of a model without reading its weights."""

    source: str
    """What the caller named."""
    path: Path
    """Where it lies."""
    kind: str
    """What it is, in words."""
    parts: tuple[ModelPart, ...] = ()
    """Its components, or the parts of its file."""
    layout: str = ""
    """Its network's layers, or those of the networks that it fits."""
    fits: str = ""
    """What it goes together with, in a sentence."""
    sizes: Mapping[str, Any] = field(default_factory=dict)
    """An adapter's own configuration."""
    variants: tuple[str, ...] = ()
    """Variants of the weights that are there, besides the plain ones."""
    backend: str = ""
    """The backend that draws with it; empty for what is no whole model."""

    @property
    def parameters(self) -> int:
        """Of all parts."""
        return sum(part.parameters for part in self.parts)

    @property
    def bytes(self) -> int:
        """Of all parts."""
        return sum(part.bytes for part in self.parts)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        own = {name: value for name, value in vars(self).items() if name not in ("path", "parts", "variants", "sizes")}
        return own | {
            "path": str(self.path),
            "parameters": self.parameters,
            "bytes": self.bytes,
            "parts": [vars(part) for part in self.parts],
            "sizes": dict(self.sizes),
            "variants": list(self.variants),
        }


def describe_pipeline(
    source: str,
    place: Path,
    index: Mapping[str, Any],
    *,
    drawn_by: str,
    layout: str,
    adapter_layout: Callable[[Path], str],
    fitted: str,
    refused: str,
) -> Description:
    """A pipeline's folder, and whether the adapter in it, if any, fits.

    Args:
        source: What the caller named.
        place: The folder.
        index: Its `model_index.json`.
        drawn_by: The backend that draws with it; empty for none.
        layout: Of its network.
        adapter_layout: The layout that an adapter's folder is for.
        fitted: What adapters of the family are for: "U-Nets".
        refused: What is said of a model that no backend draws with.
    """
    parts, variants = pipeline_parts(place, index)
    adapter = place / "adapter"
    if not drawn_by:
        fits = refused
    elif (adapter / "config.json").is_file():
        own = adapter_layout(adapter)
        fits = "whole: it has its adapter" if own == layout else f"broken: its adapter is for {fitted} with {own}"
    else:
        fits = f"adapters for {fitted} with {layout}"
    return Description(
        source=source,
        path=place,
        kind=kind_of_index(index),
        parts=parts,
        layout=layout,
        fits=fits,
        variants=variants,
        backend=drawn_by,
    )


def pipeline_parts(place: Path, index: Mapping[str, Any]) -> tuple[tuple[ModelPart, ...], tuple[str, ...]]:
    """The components of a pipeline's folder that have weights, and the variants that there are of these.

    Args:
        place: The folder.
        index: Its `model_index.json`.
    """
    parts, variants = [], set()
    for component, entry in index.items():
        if not isinstance(entry, list) or not entry[1] or not (place / component).is_dir():
            continue
        tensors, size = tensors_of(place / component)
        variants |= weight_files(place / component).keys()
        if tensors:
            parts.append(part_of(component, tensors, size, entry[1]))
    return tuple(parts), tuple(sorted(variants - {""}))
