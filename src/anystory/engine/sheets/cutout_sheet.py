"""A page that shows a cut-out: the picture, the mask, the subject on a checkerboard and as the encoders see it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from anystory.page_layout import below, beside, captioned, framed, text
from anystory.subjects.prepare import fit_to_square

__all__ = ["checkerboard", "cutout_sheet"]

_SIDE = 320
_SQUARE = 16


def cutout_sheet(rgb: np.ndarray, matte: np.ndarray, title: str) -> Image.Image:
    """The page.

    Args:
        rgb: The picture, (H, W, 3) uint8.
        matte: (H, W) uint8, 255 where the subject is; not empty.
        title: A line above.
    """
    picture, mask = _small(Image.fromarray(rgb)), _small(Image.fromarray(matte))
    on_squares = Image.composite(picture, checkerboard(*picture.size), mask)
    seen, _, _ = fit_to_square(rgb, matte, _SIDE)
    pieces = [
        captioned(picture, "picture"),
        captioned(mask.convert("RGB"), "mask"),
        captioned(on_squares, "cut out"),
        captioned(seen, "as the model sees it"),
    ]
    return framed(below([text(title, size=16), beside(pieces, gap=10)], gap=8))


def checkerboard(width: int, height: int) -> Image.Image:
    """Grey and lighter grey squares, as transparency is shown."""
    y, x = np.mgrid[:height, :width] // _SQUARE
    grey = np.where((x + y) % 2, 153, 204).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _small(image: Image.Image) -> Image.Image:
    """With a longer side of `_SIDE` pixels."""
    factor = _SIDE / max(image.size)
    width, height = (max(round(side * factor), 1) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)
