"""Random rotation, crop and zero-padding of segmented references, against copy-paste (paper, section 4.1)."""

from __future__ import annotations

import random

import cv2
import numpy as np


def augment_reference(
    rgba: np.ndarray,
    rng: random.Random,
    *,
    max_rotation: float = 20.0,
    zoom: tuple[float, float] = (0.7, 1.25),
    max_shift: float = 0.12,
    probability: float = 0.7,
) -> np.ndarray:
    """A turned, enlarged (cropped) or shrunk (padded with transparency) and shifted copy of a reference.

    Args:
        rgba: uint8 (H, W, 4), straight alpha.
        rng: Source of every draw.
        max_rotation: Degrees, either way.
        zoom: Range of the scale; above one crops, below one pads.
        max_shift: Largest move in either direction, as a share of the side.
        probability: Share of references that are changed at all.

    Returns:
        uint8 (H, W, 4), straight alpha.
    """
    if rng.random() >= probability:
        return rgba
    height, width = rgba.shape[:2]
    angle = rng.uniform(-max_rotation, max_rotation)
    scale = rng.uniform(*zoom)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
    matrix[:, 2] += [rng.uniform(-max_shift, max_shift) * width, rng.uniform(-max_shift, max_shift) * height]
    # Premultiplied, or the colour of transparent pixels would bleed into the edge.
    alpha = rgba[..., 3:].astype(np.float32) / 255
    premultiplied = np.concatenate([rgba[..., :3] * alpha, rgba[..., 3:].astype(np.float32)], axis=-1)
    moved = cv2.warpAffine(premultiplied, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0, 0))
    colour = moved[..., :3] / np.maximum(moved[..., 3:] / 255, 1e-3)
    return np.concatenate([colour, moved[..., 3:]], axis=-1).round().clip(0, 255).astype(np.uint8)
