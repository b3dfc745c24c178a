"""Which part of a picture is drawn anew when one character is."""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["feathered"]

_FEATHER = 1 / 32
"""Width of the soft edge, as a share of the picture's shorter side."""


def feathered(mask: np.ndarray) -> np.ndarray:
    """A routing mask with a soft edge that lies inside it: outside it stays 0.

    Args:
        mask: (H, W) bool.

    Returns:
        (H, W) uint8: 255 deep inside the mask, 0 outside.
    """
    width = max(1.0, _FEATHER * min(mask.shape))
    # A border of zeros would make the picture's own edge soft: there the mask goes on.
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    inside = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    return np.round(np.clip(inside / (width + 1), 0, 1) * 255).astype(np.uint8)
