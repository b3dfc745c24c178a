"""A reference picture of one identity: alone, on a transparent canvas of its own."""

from __future__ import annotations

import numpy as np
import skia

from anystory.storyworld.appearance import Appearance
from anystory.storyworld.brush import Brush
from anystory.storyworld.characters import character_extent, draw_character
from anystory.storyworld.identity import Identity

_MARGIN = 0.03
"""Free border on every side, as a share of the canvas."""


def render_reference(
    identity: Identity, appearance: Appearance | None = None, size: int = 128, style: str = "flat"
) -> np.ndarray:
    """Draws one character as large as fits.

    Args:
        identity: who.
        appearance: pose, view and so on; standing and seen from the front if None.
        size: width and height in pixels.
        style: a style of `brush.STYLES`.

    Returns:
        uint8 (size, size, 4): RGB and alpha, not premultiplied.

    Raises:
        ValueError: an unknown style, or a size that is not in 8..8192.
    """
    if not 8 <= size <= 8192:
        raise ValueError(f"size must lie in 8..8192 pixels, got {size}")
    appearance = appearance or Appearance()
    left, top, right, bottom = character_extent(identity, appearance)
    height = size * (1 - 2 * _MARGIN) / max(right - left, bottom - top)
    info = skia.ImageInfo.MakeN32Premul(size, size)
    surface = skia.Surface.MakeRaster(info)
    draw_character(
        surface.getCanvas(),
        Brush(style),
        identity,
        appearance,
        x=size / 2 - (left + right) / 2 * height,
        y=size / 2 - (top + bottom) / 2 * height,
        height=height,
    )
    pixels = np.empty((size, size, 4), np.uint8)
    straight = skia.ImageInfo.Make(size, size, skia.ColorType.kRGBA_8888_ColorType, skia.AlphaType.kUnpremul_AlphaType)
    if not surface.readPixels(straight, pixels, pixels.strides[0], 0, 0):
        raise RuntimeError(f"skia could not read back a picture of {size}×{size} pixels")
    return pixels
