"""From masks that were found to hits and trials.

Shapes: N subjects that were looked for, M characters in the picture, H × W pixels.
"""

from __future__ import annotations

import cv2
import numpy as np

from anystory.evaluation.bootstrap import Scores
from anystory.evaluation.segment.trials import Trial
from anystory.segment.fusion import Evidence
from anystory.storyworld.attribute_classifier.overlap import intersection_over_union

__all__ = ["map_scores", "mask_scores"]


def mask_scores(trial: Trial, masks: np.ndarray) -> Scores:
    """How right masks (N, H, W) bool are.

    `iou` is a mean over the subjects that can be seen. `identity` counts masks that cover more of their own character
    than of any other, which an empty one never does. `kept` counts subjects in the picture that have a mask, `empty`
    absent ones that have none. With an absent subject, measures end in `beside any` or `beside alike`.
    """
    scores = {"iou": [0.0, 0.0], "identity": [0.0, 0.0], "kept": [0.0, 0.0], "empty": [0.0, 0.0]}

    def count(name: str, hit: float) -> None:
        scores[name][0] += float(hit)
        scores[name][1] += 1

    for mask, truth in zip(masks, trial.truth, strict=True):
        if not truth.any():
            count("empty", not mask.any())
            continue
        count("iou", intersection_over_union(mask, truth))
        count("kept", mask.any())
        others = [other for other in trial.others if not np.array_equal(other, truth)]
        if others:
            count("identity", (mask & truth).sum() > max((mask & other).sum() for other in others))
    ending = "" if trial.absent == "none" else f" beside {trial.absent}"
    return {name + ending: (hits, trials) for name, (hits, trials) in scores.items() if trials}


def map_scores(trial: Trial, found: Evidence, levels: tuple[float, ...]) -> Scores:
    """`iou LEVEL LAYER` of each single map, and `iou LEVEL` of the mean over a level's layers: whoever has the largest
    log-odds owns a pixel; nothing is fitted, and no edge followed.
    """
    scores: Scores = {}
    height, width = trial.picture.shape[:2]
    for level, odds in zip(levels, found.odds, strict=True):
        named = dict(zip((f" {layer}" for layer in found.layers), odds, strict=True)) | {"": odds.mean(axis=0)}
        for name, maps in named.items():
            large = np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR) for one in maps])
            owner = np.where(large.max(axis=0) > 0, large.argmax(axis=0), -1)
            hits = [intersection_over_union(owner == n, truth) for n, truth in enumerate(trial.truth) if truth.any()]
            scores[f"iou {level:g}{name}"] = (sum(hits), float(len(hits)))
    return scores
