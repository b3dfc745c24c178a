"""Which public base model a U-Net is, told by its attention layers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["FAMILIES", "describe_counts"]

FAMILIES: Mapping[tuple[int, int], str] = MappingProxyType(
    {
        (70, 2048): "SDXL",
        (44, 1280): "the SDXL refiner",
        (16, 768): "Stable Diffusion 1.x",
        (16, 1024): "Stable Diffusion 2.x",
    }
)
"""{(number of attention layers, width of the text tokens): name}."""


def describe_counts(layers: int, text_width: int) -> str:
    """`70 attention layers (text width 2048: SDXL)`; a model that we do not know has no name."""
    name = FAMILIES.get((layers, text_width))
    return f"{layers} attention layers (text width {text_width}{f': {name}' if name else ''})"
