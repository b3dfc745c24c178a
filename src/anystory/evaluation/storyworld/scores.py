"""From one picture and the attribute classifier's reading of it to hits and trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np

from anystory.evaluation.bootstrap import Scores
from anystory.evaluation.storyworld.cases import Case
from anystory.storyworld.attribute_classifier.attributes import COARSE, FINE
from anystory.storyworld.attribute_classifier.classifier import CharacterReading, Reading
from anystory.storyworld.attribute_classifier.overlap import intersection_over_union

IDENTITY = (*COARSE, *FINE)
PROMPT = ("kind", "pose", "place", "light")
"""Measures whose trials together are the adherence to the prompt."""


def match(case: Case, found: Sequence[CharacterReading]) -> list[CharacterReading | None]:
    """Which character in the picture is which subject: the assignment under which most visible attributes agree.

    A subject without a character gets None. Nothing else tells two characters apart: a caption names kinds, and the
    router may put a subject wherever it likes.
    """
    seats: list[CharacterReading | None] = [*found, *[None] * max(0, len(case.characters) - len(found))]
    agreement = np.array(
        [
            [
                0 if reading is None else sum(_agrees(true.attributes, reading, a) for a in true.visible)
                for reading in seats
            ]
            for true in case.characters
        ]
    )
    best = max(
        permutations(range(len(seats)), len(case.characters)),
        key=lambda seating: sum(agreement[i, seat] for i, seat in enumerate(seating)),
    )
    return [seats[seat] for seat in best]


def score(case: Case, reading: Reading) -> Scores:
    """Identity, leaks and adherence of one picture.

    `identity`, `coarse` and `fine` count the visible attributes of all subjects; a missing character has none right.
    `leak` counts those in which subjects differ, and how often a subject shows another one's value instead of its own.
    """
    seated = match(case, reading.characters)
    scores: dict[str, list[float]] = {}

    def trial(name: str, hit: bool) -> None:
        total = scores.setdefault(name, [0.0, 0.0])
        total[0] += hit
        total[1] += 1

    for i, (true, found) in enumerate(zip(case.characters, seated, strict=True)):
        for attribute in IDENTITY:
            if attribute not in true.visible:
                continue
            right = found is not None and _agrees(true.attributes, found, attribute)
            trial("identity", right)
            trial("coarse" if attribute in COARSE else "fine", right)
            trial(f"attribute {attribute}", right)
            own = true.attributes[attribute]
            others = {o.attributes[attribute] for j, o in enumerate(case.characters) if j != i} - {own, ""}
            if others:
                trial("leak", found is not None and found.attributes[attribute] in others)
        if case.pose_is_said(i) and "pose" in true.visible:
            trial("pose", found is not None and found.attributes["pose"] == true.attributes["pose"])
    asked, drawn = Counter(case.kinds), Counter(found.attributes["kind"] for found in reading.characters)
    present = sum((asked & drawn).values())
    for i in range(len(case.kinds)):
        trial("kind", i < present)
    trial("place", reading.place == case.scene.place)
    if case.light_is_said:
        trial("light", reading.light == case.scene.light)
    scores["prompt"] = [sum(scores[name][i] for name in PROMPT if name in scores) for i in range(2)]
    trial("count", len(reading.characters) == len(case.characters))
    return {name: (hits, trials) for name, (hits, trials) in scores.items()}


def sharpness_score(drawn: np.ndarray, true: np.ndarray) -> Scores:
    """Sum of squared differences of neighbouring pixels of a picture (H, W, 3), against that of the true scene.

    The share is 1 where outlines are as crisp as StoryWorld's own, and near 0 where the picture is a blur.
    """
    return {"sharpness": (_roughness(drawn), _roughness(true))}


def _roughness(image: np.ndarray) -> float:
    values = image.astype(np.float64) / 127.5
    return float(np.square(np.diff(values, axis=0)).sum() + np.square(np.diff(values, axis=1)).sum())


def routing_scores(case: Case, reading: Reading, masks: Mapping[str, Sequence[np.ndarray] | np.ndarray]) -> Scores:
    """Overlap of each subject's routing mask with the character it became, as the attribute classifier sees it.

    Args:
        masks: {measure: one mask (H, W) bool per subject, at the classifier's size}.

    Returns:
        Measure -> (sum of IoUs, subjects); a subject without a character has none.
    """
    seated = match(case, reading.characters)
    return {
        name: (
            sum(0.0 if f is None else intersection_over_union(m, f.mask) for m, f in zip(routed, seated, strict=True)),
            float(len(seated)),
        )
        for name, routed in masks.items()
    }


def _agrees(attributes: Mapping[str, str], reading: CharacterReading, name: str) -> bool:
    return reading.attributes[name] == attributes[name]
