"""One subject of a picture by itself: what a routing mask, or a segmenter, cuts out of it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from anystory.subjects.cutout import Segmenter
from anystory.subjects.prepare import fit_to_square

__all__ = ["LEAST_SHARE", "cut_by_mask", "cut_by_segmenter"]

LEAST_SHARE = 0.01
"""Of the picture, that a subject covers: what is smaller is missing."""
_SIDE = 224


def cut_by_mask(picture: np.ndarray, mask: np.ndarray, side: int = _SIDE) -> Image.Image | None:
    """A subject over white, its longer side filling a square, as references are prepared.

    Args:
        picture: (H, W, 3) uint8.
        mask: (H, W) bool, such as a routing mask.
        side: Of the result, in pixels.

    Returns:
        The square, RGB; None where the mask covers less than `LEAST_SHARE` of the picture.

    Raises:
        ValueError: a mask of another size than the picture.
    """
    if mask.shape != picture.shape[:2]:
        raise ValueError(f"a mask must have its picture's size {picture.shape[:2]}, got {mask.shape}")
    if mask.mean() < LEAST_SHARE:
        return None
    square, _, _ = fit_to_square(picture, mask.astype(np.uint8) * 255, side)
    return square


def cut_by_segmenter(
    picture: np.ndarray, mask: np.ndarray | None, segmenter: Segmenter, side: int = _SIDE
) -> Image.Image | None:
    """The same by a segmenter, for exacter outlines than the router's.

    Args:
        picture: (H, W, 3) uint8.
        mask: (H, W) bool: roughly where the subject is; the segmenter sees the box around it. None for all.
        segmenter: What finds the subject there (`subjects.segmenter.find_segmenter`).
        side: Of the result, in pixels.

    Returns:
        The square, RGB; None where the mask is next to empty, or the segmenter finds nothing.
    """
    if mask is not None:
        if mask.mean() < LEAST_SHARE:
            return None
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        picture = np.ascontiguousarray(picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    found = segmenter(picture)
    return None if found is None else cut_by_mask(picture, found.matte >= 128, side)
