"""A subject's photo as the encoders see it in training: cut out on a square, and augmented against copy-paste."""

from __future__ import annotations

import random

import cv2
import numpy as np

from anystory.subjects.prepare import fit_to_square

__all__ = ["augment_reference", "reference_square"]


def reference_square(rgba: np.ndarray, size: int) -> np.ndarray:
    """Cut out, crop to the subject, pad to a square and resize, as `Subject.prepare` does for drawing.

    Args:
        rgba: (h, w, 4) uint8, straight alpha, not empty.
        size: Side of the result.

    Returns:
        (size, size, 4) uint8, straight alpha. Over white it is what `Subject.prepare` gives, up to rounding.
    """
    over_white, matte, _ = fit_to_square(np.ascontiguousarray(rgba[..., :3]), np.ascontiguousarray(rgba[..., 3]), size)
    square = np.empty((size, size, 4), np.uint8)
    square[..., :3] = np.asarray(over_white)
    square[..., 3] = np.rint(matte * 255)
    # Remove the white again: later rotation and scaling must not leave a white seam.
    seam = (square[..., 3] > 0) & (square[..., 3] < 255)
    alpha = matte[seam, None]
    square[seam, :3] = ((square[seam, :3] - 255 * (1 - alpha)) / alpha).round().clip(0, 255)
    return square


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
