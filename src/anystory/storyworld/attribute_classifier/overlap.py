"""How far two masks agree."""

from __future__ import annotations

import numpy as np


def intersection_over_union(a: np.ndarray, b: np.ndarray) -> float:
    """|a ∩ b| / |a ∪ b| of two boolean masks; 0 where both are empty."""
    return float((a & b).sum() / max(1, (a | b).sum()))
