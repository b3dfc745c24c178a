"""What further groups measure besides the table: doubles, copied poses, backgrounds, crowds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

from anystory.evaluation.bootstrap import Scores
from anystory.evaluation.metrics.background import background_similarity
from anystory.evaluation.metrics.copy_paste import copied_pose
from anystory.evaluation.storyworld.cases import Case
from anystory.evaluation.storyworld.scores import match, score
from anystory.storyworld.attribute_classifier.classifier import AttributeClassifier, Reading

__all__ = ["add_backgrounds", "group_scores", "read_all"]

_OUTLINE = 3
"""Pixels around a character, at the classifier's size, that are not compared: its outline and its shadow."""


def read_all(
    classifier: AttributeClassifier, pictures: Tensor, cases: Sequence[Case], masks: Sequence[np.ndarray | None]
) -> list[Reading]:
    """Read pictures (B, 3, H, W); those with more characters than the classifier tells apart inside the routing masks.

    Args:
        masks: Each picture's routing masks, (N, H, W) bool; None without a router, where such pictures are read as well
            as the classifier can.
    """
    readings = classifier.read(pictures)
    crowds = [
        place
        for place, (case, own) in enumerate(zip(cases, masks, strict=True))
        if own is not None and len(case.characters) > classifier.config.max_characters
    ]
    if not crowds:
        return readings
    least = classifier.config.min_area
    given = [[mask for mask in masks[place] if mask.sum() >= least] for place in crowds]  # type: ignore[union-attr]
    for place, characters in zip(crowds, classifier.read_instances(pictures[crowds], given), strict=True):
        seen = readings[place]
        readings[place] = Reading(place=seen.place, light=seen.light, characters=characters)
    return readings


def group_scores(case: Case, reading: Reading, most: int) -> Scores:
    """The table's scores, and further ones.

    `doubled`: whether a kind that was asked for is there more often than asked; `copied pose` and `pose asked`: see
    `metrics.copy_paste.copied_pose`, for subjects whose pose the caption says and whose reference has another.

    Args:
        most: characters that the classifier tells apart: of more, their number is not measured.
    """
    scores = score(case, reading)
    seated = match(case, reading.characters)
    for number, (true, found) in enumerate(zip(case.characters, seated, strict=True)):
        if not case.pose_is_said(number) or "pose" not in true.visible:
            continue
        drawn = None if found is None else found.attributes["pose"]
        for name, pair in copied_pose(true.attributes["pose"], case.appearances[number].pose, drawn).items():
            total, trials = scores.get(name, (0.0, 0.0))
            scores[name] = (total + pair[0], trials + pair[1])
    if len(case.characters) > most:
        return {name: pair for name, pair in scores.items() if name != "count"}
    asked, drawn_kinds = Counter(case.kinds), Counter(found.attributes["kind"] for found in reading.characters)
    scores["doubled"] = (float(any(drawn_kinds[kind] > count for kind, count in asked.items())), 1.0)
    return scores


def add_backgrounds(
    cases: Sequence[Case], pictures: Sequence[np.ndarray], subjects: Sequence[np.ndarray], scores: Sequence[Scores]
) -> None:
    """Compare the backgrounds of the two pictures of each place; the second one's scores get `background`.

    Args:
        cases: all of a row.
        pictures: (H, W, 3) uint8 of each, at the classifier's size.
        subjects: (H, W) bool of each: where characters are.
        scores: of each; written to.
    """
    pairs: dict[tuple[str, int], list[int]] = {}
    for place, case in enumerate(cases):
        if case.pair is not None:
            pairs.setdefault((case.group, case.pair), []).append(place)
    kernel = np.ones((2 * _OUTLINE + 1,) * 2, np.uint8)
    for first, *others in pairs.values():
        for second in others:
            either = (subjects[first] | subjects[second]).astype(np.uint8)
            alike = background_similarity(pictures[first], pictures[second], cv2.dilate(either, kernel) > 0)
            if alike is not None:
                scores[second]["background"] = (alike, 1.0)
