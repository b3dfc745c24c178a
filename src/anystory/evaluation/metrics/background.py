"""How alike the backgrounds of two pictures are, and how different pictures of one prompt are."""

from __future__ import annotations

import numpy as np

from anystory.extras import need

__all__ = ["background_similarity", "diversity"]

_LEAST_SHARE = 0.05
"""Of the picture, that both backgrounds have in common; with less there is nothing to compare."""


def background_similarity(a: np.ndarray, b: np.ndarray, subjects: np.ndarray) -> float | None:
    """Structural similarity of two pictures where neither has a subject; -1…1, higher is more alike, 1 for equal.

    SSIM with scikit-image's window of 7 pixels, on each colour, averaged over the pixels that are background in both
    (Wang et al., IEEE Transactions on Image Processing 13, 2004).

    Args:
        a, b: (H, W, 3) uint8, at least 7 pixels on each side.
        subjects: (H, W) bool: where a subject is in one of them.

    Returns:
        The similarity; None where the two have less than 5 % of the picture in common.

    Raises:
        ValueError: pictures or a mask of different sizes, or scikit-image is not installed.
    """
    if a.shape != b.shape or subjects.shape != a.shape[:2]:
        raise ValueError(f"both pictures and the mask must have one size, got {a.shape}, {b.shape}, {subjects.shape}")
    shared = ~subjects
    if shared.mean() < _LEAST_SHARE:
        return None
    metrics = need("skimage.metrics", "background similarity", "eval")
    _, maps = metrics.structural_similarity(a, b, channel_axis=2, full=True)
    return float(maps[shared].mean())


def diversity(features: np.ndarray) -> float | None:
    """How different pictures are: one minus the mean cosine of all pairs; 0…2, higher is more diverse.

    DreamBooth takes the mean LPIPS distance for this (section 4.4); we take the encoder that the other metrics have.

    Args:
        features: (n, d) unit vectors of pictures of one prompt and subject.

    Returns:
        The diversity; None of fewer than two pictures.
    """
    if len(features) < 2:
        return None
    rows, columns = np.triu_indices(len(features), 1)
    return float(1 - (features @ features.T)[rows, columns].mean())
