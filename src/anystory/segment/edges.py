"""Small maps to a picture's size, along the picture's edges.

Shapes: C maps, h × w their grid, H × W pixels of the picture.
"""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["follow_edges"]

_REACH = 1.5
"""Radius of the filter's windows, in cells of the grid: a border may move as far as the next cell."""
_SMOOTHNESS = 1e-4
"""ε, in squared units of colours in 0…1: windows whose colours vary less than this are flat, and stay smooth."""
_MOST_PIXELS = 1024 * 1024
"""The filter's coefficients are found on a picture of at most this size; they are smooth, and scale up well."""


def follow_edges(maps: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Resize maps so that their borders lie on the picture's edges: a guided filter with the picture as the guide.

    He, Sun and Tang, "Guided Image Filtering" (2013), with a coloured guide (equations 19 to 21); the coefficients are
    computed on a smaller picture where it is large, as in He and Sun, "Fast Guided Filter" (2015).

    Args:
        maps: (C, h, w) float32.
        picture: (H, W, 3) uint8.

    Returns:
        (C, H, W) float32; values may lie a little outside those of `maps`.
    """
    height, width = picture.shape[:2]
    shrink = min(1.0, (_MOST_PIXELS / (height * width)) ** 0.5)
    size = max(round(width * shrink), 1), max(round(height * shrink), 1)
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    radius = max(round(_REACH * max(size[1] / maps.shape[1], size[0] / maps.shape[2])), 1)

    def box(values: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(values, -1, (2 * radius + 1,) * 2, borderType=cv2.BORDER_REFLECT)

    mean = box(small)
    products = box(np.einsum("hwa,hwb->hwab", small, small).reshape(*small.shape[:2], 9)).reshape(*small.shape, 3)
    spread = products - mean[..., :, None] * mean[..., None, :]
    inverse = np.linalg.inv(spread + _SMOOTHNESS * np.eye(3, dtype=np.float32))
    found = []
    for one in maps.astype(np.float32):
        one = cv2.resize(one, size, interpolation=cv2.INTER_LINEAR)
        average = box(one)
        slope = (inverse @ (box(small * one[..., None]) - mean * average[..., None])[..., None])[..., 0]
        offset = average - (slope * mean).sum(axis=-1)
        full = cv2.resize(box(offset), (width, height))
        for colour in range(3):  # one by one: a large picture has many pixels
            full += cv2.resize(box(slope[..., colour]), (width, height)) * (picture[..., colour] / np.float32(255))
        found.append(full)
    return np.stack(found)
