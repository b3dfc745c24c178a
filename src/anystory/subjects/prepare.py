"""From a cut-out subject to the square picture that the encoders see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

__all__ = ["MARGIN", "CutPicture", "PreparedSubject", "fit_to_square", "matte_box"]

MARGIN = 3 / 64
"""White on each side of the subject, as a share of its longer side."""

_VISIBLE = 26
"""The matte (of 255) from which a pixel counts for the box, so that haze and shadows do not shrink the subject."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CutPicture:
    """A subject cut out of a picture that was read, at its own size and without the rest."""

    rgb: np.ndarray
    """(h, w, 3) uint8: the picture inside `box`."""
    matte: np.ndarray
    """(h, w) uint8: 255 where the subject is."""
    box: tuple[int, int, int, int]
    """(left, top, right, bottom) of the subject in the picture, in pixels."""
    sha256: str
    """Of the picture; see `pictures.Picture.sha256`."""
    method: str
    """See `PreparedSubject.cutout`."""
    confidence: float
    """See `PreparedSubject.confidence`."""
    label: str
    """What messages call the picture."""

    def __repr__(self) -> str:
        return self.label


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PreparedSubject:
    """What the encoders see of a subject."""

    image: Image.Image
    """RGB, size × size: the subject over white, its longer side filling the square but for the margin (D10)."""
    mask: np.ndarray
    """(size, size) float32 in [0, 1]: the subject's share of each pixel."""
    sha256: str
    """Of the source picture; see `pictures.Picture.sha256`."""
    cutout: str
    """How the subject was found: "mask", "alpha", "border", "grabcut", "none", or a model's id."""
    confidence: float = 1.0
    """How far to trust the cut-out, in [0, 1]; see `Cutout`."""
    box: tuple[int, int, int, int]
    """(left, top, right, bottom) of the subject in the source picture, in pixels."""

    def __repr__(self) -> str:
        left, top, right, bottom = self.box
        return (
            f"PreparedSubject({self.image.width}×{self.image.height}, found by {self.cutout} at x {left}–{right}, "
            f"y {top}–{bottom}, covers {self.mask.mean():.0%}, sha256 {self.sha256[:8]}…)"
        )


def fit_to_square(
    rgb: np.ndarray, matte: np.ndarray, size: int, margin: float = MARGIN
) -> tuple[Image.Image, np.ndarray, tuple[int, int, int, int]]:
    """Cut a subject out, fill with white, crop to it, pad to a square, resize.

    Args:
        rgb: (H, W, 3) uint8.
        matte: (H, W) uint8, 255 where the subject is; not empty.
        size: Side of the result in pixels.
        margin: White on each side, as a share of the subject's longer side, ≥ 0.

    Returns:
        The picture (RGB, size × size), the matte (size, size) float32 in [0, 1], and the subject's box
        (left, top, right, bottom) in `rgb`.
    """
    left, top, right, bottom = box = matte_box(matte)
    colour = Image.fromarray(np.ascontiguousarray(rgb[top:bottom, left:right]))
    alpha = Image.fromarray(np.ascontiguousarray(matte[top:bottom, left:right]))
    over_white = Image.composite(colour, Image.new("RGB", colour.size, "white"), alpha)
    # Resize, then pad: the square around a long thin strip could be far larger than the strip.
    scale = size / (max(colour.size) * (1 + 2 * margin))
    inner = (max(round(colour.width * scale), 1), max(round(colour.height * scale), 1))
    corner = ((size - inner[0]) // 2, (size - inner[1]) // 2)
    image = Image.new("RGB", (size, size), "white")
    image.paste(over_white.resize(inner, Image.Resampling.BICUBIC), corner)
    mask = Image.new("L", (size, size), 0)
    mask.paste(alpha.resize(inner, Image.Resampling.BICUBIC), corner)
    return image, np.asarray(mask, dtype=np.float32) / 255, box


def matte_box(matte: np.ndarray) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) around a subject, in pixels, without haze; the matte (H, W) must not be empty."""
    rows = np.flatnonzero((matte >= _VISIBLE).any(axis=1))
    columns = np.flatnonzero((matte >= _VISIBLE).any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
