"""Whether each subject is there, once, and how many are there in all."""

from __future__ import annotations

import math

import cv2
import numpy as np

__all__ = ["ALIKE", "DOUBLED", "is_double", "on_stage_count"]

ALIKE = 0.65
"""A character whose likeness to itself (a cosine of CLIP features) is below this is not itself."""
DOUBLED = 0.5
"""What a doubled character's share of a score is multiplied by."""

_SECOND = 0.5
"""A second part of a mask with at least this share of the first one's pixels is somebody again."""
_EPSILON = 1e-6


def is_double(mask: np.ndarray) -> bool:
    """Whether a subject's mask (H, W) bool has two large parts that do not touch: it is probably there twice."""
    _, _, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = sorted(facts[1:, cv2.CC_STAT_AREA], reverse=True)
    return len(areas) > 1 and bool(areas[1] >= _SECOND * areas[0])


def on_stage_count(found: int, asked: int) -> float:
    """OCCM: how well the number of characters matches, 0…1, higher is better; 1 for the right number.

    ViStoryBench's on-stage character count matching (arXiv 2505.24862): exp(-|D - E| / (ε + E)) for D characters
    found and E asked for, with ε = 1e-6. There it is given in percent.

    Raises:
        ValueError: a negative number.
    """
    if found < 0 or asked < 0:
        raise ValueError(f"numbers of characters are at least 0, got {found} found and {asked} asked for")
    return math.exp(-abs(found - asked) / (_EPSILON + asked))
