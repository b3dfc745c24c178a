"""A subject's fixed region on the tokens of a transformer's picture.

Shapes: S tokens of a picture of H × W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anystory.subjects import Subject

__all__ = ["token_region"]

_PIXELS = 16
"""Of a token's side."""


def token_region(subject: Subject, grid: tuple[int, int]) -> Tensor | None:
    """(S,) bool: the tokens of which a subject's region covers at least half; None without a region.

    Args:
        subject: It.
        grid: Rows and columns of the picture's tokens.
    """
    if subject.region is None:
        return None
    mask = torch.from_numpy(subject.region_mask(*(_PIXELS * side for side in grid)))
    return (F.adaptive_avg_pool2d(mask[None, None].float(), grid) >= 0.5).flatten()
