"""Noise levels: shares of the way from a picture to pure noise. Nothing heavy is imported."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

__all__ = ["DEFAULT_LEVELS", "check_levels"]

DEFAULT_LEVELS = (0.1, 0.3)
"""Where nobody has fitted any: enough noise for the network to look at the references, and most of the picture left."""


def check_levels(levels: Sequence[float]) -> None:
    """Raises ValueError where noise levels are not numbers in (0, 1), rising."""
    rising = all(a < b for a, b in itertools.pairwise(levels))
    if not levels or not all(0 < level < 1 for level in levels) or not rising:
        raise ValueError(f"`levels` must be rising numbers between 0 and 1, such as (0.1, 0.3), got {tuple(levels)}")
