"""How much room a character takes up."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import skia

from anystory.storyworld.appearance import Appearance
from anystory.storyworld.brush import Brush
from anystory.storyworld.characters.draw import draw_character
from anystory.storyworld.identity import Identity

_SCALE = 44
"""Pixels per height of the character."""
_WIDTH, _TOP, _BOTTOM = 132, 92, 16
"""Size of the picture that is measured, and its rows above and below the feet."""
_INFO = skia.ImageInfo.MakeN32Premul(_WIDTH, _TOP + _BOTTOM)


@lru_cache(maxsize=1024)
def character_extent(identity: Identity, appearance: Appearance) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of everything drawn, relative to the feet, in units of height, y downwards.

    Ears, tail, headwear and what is held are included. The box is measured on a small drawing, so it cannot disagree
    with `draw_character`; it may be too large by up to 0.05 on a side, never too small.
    """
    pixels = np.zeros((_TOP + _BOTTOM, _WIDTH, 4), np.uint8)
    surface = skia.Surface.MakeRasterDirect(_INFO, pixels)
    draw_character(surface.getCanvas(), Brush.mask(255), identity, appearance, x=_WIDTH / 2, y=_TOP, height=_SCALE)
    drawn = pixels[..., 3] > 0
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    # one pixel more on every side: a pixel is drawn only when its centre is covered
    return (
        (float(columns[0]) - 1 - _WIDTH / 2) / _SCALE,
        (float(rows[0]) - 1 - _TOP) / _SCALE,
        (float(columns[-1]) + 2 - _WIDTH / 2) / _SCALE,
        (float(rows[-1]) + 2 - _TOP) / _SCALE,
    )
