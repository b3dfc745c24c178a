"""Where a subject goes: a box or a mask that overrides the router."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from anystory.subjects.arrays import is_tensor, plain_number
from anystory.subjects.pictures import load_mask

__all__ = ["check_region", "region_mask"]


def check_region(region: Any) -> None:
    """Check a region's box; a mask is checked when it is loaded.

    Raises:
        ValueError: a box that is not 0 ≤ x0 < x1 ≤ 1 and 0 ≤ y0 < y1 ≤ 1.
    """
    if region is None or not _is_box(region):
        return
    values = [float(value) for value in region]
    if not all(math.isfinite(value) and 0 <= value <= 1 for value in values):
        hint = ": fractions of width and height, not pixels" if max(values) > 1 else ""
        raise ValueError(f"`region` must be a box (x0, y0, x1, y1) in 0…1{hint}, got {tuple(values)}")
    x0, y0, x1, y1 = values
    if x0 >= x1 or y0 >= y1:
        raise ValueError(f"`region` must be a box (x0, y0, x1, y1) with x0 < x1 and y0 < y1, got {tuple(values)}")


def region_mask(region: Any, height: int, width: int) -> np.ndarray:
    """The share of each pixel that a region covers, (height, width) float32 in [0, 1].

    Args:
        region: A box (x0, y0, x1, y1) in fractions of width and height from the top left corner, or a mask of any size
            (white inside), which is stretched to the picture.

    Raises:
        ValueError: as for `check_region` and `load_mask`.
    """
    if _is_box(region):
        check_region(region)
        x0, y0, x1, y1 = (float(value) for value in region)
        return np.outer(_covered(y0 * height, y1 * height, height), _covered(x0 * width, x1 * width, width))
    mask = load_mask(region, "region").astype(np.float32) / 255
    shrinks = mask.shape[0] >= height and mask.shape[1] >= width
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _covered(start: float, end: float, count: int) -> np.ndarray:
    """How much of each of the unit intervals [i, i + 1] lies in [start, end]."""
    low = np.arange(count, dtype=np.float32)
    return np.clip(np.minimum(end, low + 1) - np.maximum(start, low), 0, 1).astype(np.float32)


def _is_box(region: Any) -> bool:
    if isinstance(region, np.ndarray) or is_tensor(region):
        return tuple(region.shape) == (4,)
    return isinstance(region, Sequence) and not isinstance(region, (str, bytes)) and _numbers(region)


def _numbers(region: Sequence[Any]) -> bool:
    if len(region) != 4 or not all(isinstance(plain_number(value), (int, float)) for value in region):
        raise ValueError(f"`region` must be a box of four numbers (x0, y0, x1, y1) or a mask, got {region!r:.80}")
    return True
