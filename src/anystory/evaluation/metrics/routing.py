"""How well routing masks agree with where the subjects are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anystory.storyworld.attribute_classifier.overlap import intersection_over_union

__all__ = ["routing_iou"]


def routing_iou(masks: Sequence[np.ndarray], truths: Sequence[np.ndarray | None]) -> float:
    """The mean IoU of a picture's routing masks with its subjects; 0…1, higher is better.

    Args:
        masks: One (H, W) bool for each subject, as `RoutingRecord.masks` gives them.
        truths: Where each subject is; None for one that is missing, which counts 0.

    Raises:
        ValueError: there is no subject, or not one truth for each mask.
    """
    if not len(masks) or len(masks) != len(truths):
        raise ValueError(f"routing IoU needs a truth for each mask, got {len(masks)} masks and {len(truths)} truths")
    pairs = zip(masks, truths, strict=True)
    return float(np.mean([0.0 if true is None else intersection_over_union(mask, true) for mask, true in pairs]))
