"""How well an attribute classifier reads held-out scenes whose truth is known, as drawn and through an autoencoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from anystory.storyworld.attribute_classifier.classifier import AttributeClassifier, CharacterReading, Reading
from anystory.storyworld.attribute_classifier.degrade import Rebuild
from anystory.storyworld.attribute_classifier.overlap import intersection_over_union
from anystory.storyworld.attribute_classifier.pictures import to_pixels
from anystory.storyworld.attribute_classifier.truth import TrueCharacter, truth
from anystory.storyworld.level import Level, load_level
from anystory.storyworld.render import render_scene
from anystory.storyworld.sampling import sample_scene

OWN, TRUE = "own masks", "true masks"
_SAME = 0.5
"""Least overlap (IoU) of a read character with a true one to be taken for it."""


@dataclass
class Accuracy:
    """How many are right of how many."""

    right: int = 0
    total: int = 0

    def count(self, right: bool) -> None:
        """Add one case."""
        self.right += bool(right)
        self.total += 1

    @property
    def rate(self) -> float:
        """Share of right ones, 0 to 1; not a number if there is no case."""
        return self.right / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the rate (Wilson)."""
        if not self.total:
            return 0.0, 1.0
        z, n, p = 1.959964, self.total, self.rate
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)


@dataclass
class PictureScores:
    """Scores on one sort of pictures."""

    attributes: dict[str, dict[str, Accuracy]]
    """Masks (OWN: the classifier's, end to end; TRUE) -> attribute -> score over the characters where it is visible."""
    place: Accuracy = field(default_factory=Accuracy)
    light: Accuracy = field(default_factory=Accuracy)
    count: Accuracy = field(default_factory=Accuracy)
    """Pictures whose number of characters is read right."""
    overlaps: list[float] = field(default_factory=list)
    """IoU of each true character with the read one that is taken for it; 0 if there is none."""


@dataclass
class ClassifierReport:
    """All that `measure` found."""

    pictures: dict[str, PictureScores]
    """"renders", and "rebuilt" if there was an autoencoder."""
    judged: dict[str, Accuracy]
    """Attribute -> of the characters that have it, those on which it is visible and was scored."""
    characters: Accuracy
    """Of all characters, those large enough to be read at all."""

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON-ready dicts and numbers."""
        return {
            "characters_read": _as_dict(self.characters),
            "judged": {name: _as_dict(score) for name, score in self.judged.items()},
            "pictures": {
                sort: {
                    "place": _as_dict(found.place),
                    "light": _as_dict(found.light),
                    "count": _as_dict(found.count),
                    "mean_iou": float(np.mean(found.overlaps)),
                    "attributes": {
                        masks: {name: _as_dict(score) for name, score in scores.items()}
                        for masks, scores in found.attributes.items()
                    },
                }
                for sort, found in self.pictures.items()
            },
        }


def _as_dict(score: Accuracy) -> dict[str, Any]:
    return {"right": score.right, "total": score.total, "rate": score.rate, "interval": list(score.interval)}


def measure(
    classifier: AttributeClassifier,
    count: int,
    level: Level | str | int | None = None,
    rebuild: Rebuild | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
    first: int = 0,
) -> ClassifierReport:
    """Score an attribute classifier on `count` held-out scenes, from number `first` on.

    Args:
        level: the scenes' level; None: the classifier's.
        on_progress: called with the number of scenes that are drawn.
    """
    level = level if isinstance(level, Level) else load_level(level or classifier.config.level)
    scenes = [sample_scene(index, level, "heldout") for index in range(first, first + count)]
    drawn = [render_scene(scene, classifier.config.size) for scene in scenes]
    report = ClassifierReport(
        pictures={}, judged={name: Accuracy() for name in classifier.attributes}, characters=Accuracy()
    )
    people: list[list[tuple[TrueCharacter, np.ndarray]]] = []
    for i, (scene, picture) in enumerate(zip(scenes, drawn, strict=True)):
        people.append([])
        for number, true in enumerate(truth(scene, picture, level), 1):
            mask = picture.instances == number
            report.characters.count(mask.sum() >= classifier.config.min_area)
            if mask.sum() < classifier.config.min_area:
                continue
            people[i].append((true, mask))
            for name, score in report.judged.items():
                if true.attributes[name]:
                    score.count(name in true.visible)
        on_progress(i + 1)
    renders = to_pixels(torch.from_numpy(np.stack([picture.image for picture in drawn])))
    sorts = {"renders": renders}
    if rebuild is not None:
        generator = torch.Generator().manual_seed(0)
        sorts["rebuilt"] = torch.cat([rebuild(part, generator) for part in renders.split(64)])
    for sort, images in sorts.items():
        scores = report.pictures[sort] = PictureScores(
            attributes={masks: {name: Accuracy() for name in classifier.attributes} for masks in (OWN, TRUE)}
        )
        readings = classifier.read(images)
        given = classifier.read_instances(images, [[mask for _, mask in row] for row in people])
        _score(readings, given, people, scores)
        for reading, scene in zip(readings, scenes, strict=True):
            scores.place.count(reading.place == scene.place)
            scores.light.count(reading.light == scene.light)
    return report


def _score(
    readings: list[Reading],
    given: list[list[CharacterReading]],
    people: list[list[tuple[TrueCharacter, np.ndarray]]],
    scores: PictureScores,
) -> None:
    """Add up readings with the classifier's own masks and with those given to it."""
    for reading, with_true_masks, row in zip(readings, given, people, strict=True):
        scores.count.count(len(reading.characters) == len(row))
        matches = match([mask for _, mask in row], [character.mask for character in reading.characters])
        for i, (true, _) in enumerate(row):
            taken, overlap = matches[i]
            scores.overlaps.append(overlap)
            own = None if taken is None else reading.characters[taken]
            for masks, character in ((OWN, own), (TRUE, with_true_masks[i])):
                _count(scores.attributes[masks], true, character)


def _count(scores: dict[str, Accuracy], true: TrueCharacter, read: CharacterReading | None) -> None:
    """A character that was not found is wrong in everything."""
    for name in true.attributes:
        if name in true.visible:
            right = read is not None and read.attributes[name] == true.attributes[name]
            scores[name].count(right)


def match(wanted: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> list[tuple[int | None, float]]:
    """For each wanted mask the found one that is taken for it (each at most once, best overlaps first), and the IoU.

    Without one of an IoU of at least 0.5: None and 0.
    """
    pairs = sorted(
        ((intersection_over_union(a, b), i, j) for i, a in enumerate(wanted) for j, b in enumerate(found)),
        key=lambda pair: -pair[0],
    )
    result: list[tuple[int | None, float]] = [(None, 0.0)] * len(wanted)
    used: set[int] = set()
    for overlap, i, j in pairs:
        if overlap >= _SAME and result[i][0] is None and j not in used:
            result[i] = (j, overlap)
            used.add(j)
    return result
