"""Colours of subjects, and pictures tinted with them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from PIL import Image

__all__ = ["SLOT_COLOURS", "overlay"]

SLOT_COLOURS = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0), (86, 180, 233), (240, 228, 66),
)  # fmt: skip
"""One colour per subject, distinct for colour-blind readers too (Okabe and Ito's)."""


def overlay(picture: Image.Image, masks: Iterable[np.ndarray], strength: float = 0.5) -> Image.Image:
    """The picture with each subject's pixels tinted in its colour.

    Args:
        masks: One (H, W) bool for each subject, of the picture's size.
        strength: Share of the tint, in 0…1.
    """
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32)
    for slot, mask in enumerate(masks):
        colour = np.array(SLOT_COLOURS[slot % len(SLOT_COLOURS)], dtype=np.float32)
        pixels = np.where(mask[..., None], pixels * (1 - strength) + colour * strength, pixels)
    return Image.fromarray(np.rint(pixels).astype(np.uint8))
