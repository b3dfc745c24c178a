"""Which public base model a U-Net is, told by its attention layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from anystory.models.layout import AttentionLayer

__all__ = ["FAMILIES", "describe_layout", "family"]

FAMILIES: Mapping[tuple[int, int], str] = MappingProxyType(
    {
        (70, 2048): "SDXL",
        (44, 1280): "the SDXL refiner",
        (16, 768): "Stable Diffusion 1.x",
        (16, 1024): "Stable Diffusion 2.x",
    }
)
"""{(number of attention layers, width of the text tokens): name}."""


def family(layers: Sequence[AttentionLayer]) -> str | None:
    """The base model with such layers, or None for one that we do not know."""
    return FAMILIES.get((len(layers), layers[0].context_dim))


def describe_layout(layers: Sequence[AttentionLayer]) -> str:
    """`70 attention layers (text width 2048: SDXL)`."""
    name = family(layers)
    return f"{len(layers)} attention layers (text width {layers[0].context_dim}{f': {name}' if name else ''})"
