"""Pictures of StoryWorld, and whom to look for in them: everybody, or one who is there and one who is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from anystory.evaluation.storyworld.cases import Case, Group, draw_cases, instance_masks

__all__ = ["Trial", "draw_scenes", "trials_of"]

Absent = Literal["none", "any", "alike"]
"""Who is looked for in vain: nobody, anybody, or somebody of the kind of a character in the picture."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """A picture, and whom to look for."""

    index: int
    """Of the scene among the scenes."""
    group: Group
    absent: Absent
    picture: np.ndarray
    """(H, W, 3) uint8."""
    references: tuple[Image.Image, ...]
    """RGBA, of each subject that is looked for."""
    subjects: tuple[tuple[int, int], ...]
    """Their scenes, and which character of it they are."""
    truth: np.ndarray
    """(N, H, W) bool: where they are; empty for one that is not there."""
    others: np.ndarray
    """(M, H, W) bool: where everybody in the picture is."""


def draw_scenes(number: int, *, level: str, split: str, size: int, alone: bool = False) -> Iterator[Case]:
    """The first scenes of a split with two characters, a third of them look-alikes.

    Args:
        number: How many, at least 3.
        level, split: As for `draw_cases`.
        size: Side of the pictures, pixels.
        alone: Scenes with a single character, too: one of them to three with two.
    """
    asked = number if alone else -(-4 * number // 3)
    drawn = draw_cases(max(asked, 4), level=level, split=split, size=size)
    scenes = (case for case in drawn if alone or len(case.characters) == 2)
    for _, case in zip(range(number), scenes, strict=False):
        yield case


def trials_of(cases: Sequence[Case], seed: int = 0) -> Iterator[Trial]:
    """For each scene: everybody; one of them and somebody of any other scene.

    For every second one also: one of them, and somebody of another scene of the same kind as a character here.
    """
    for index, case in enumerate(cases):
        rng = np.random.default_rng((seed, index))
        everybody = [(index, n) for n in range(len(case.references))]
        yield _trial(cases, index, "none", everybody)
        kept = everybody[int(rng.integers(len(everybody)))]
        strangers = [(i, n) for i, other in enumerate(cases) if i != index for n in range(len(other.references))]
        like = case.kinds[int(rng.integers(len(everybody)))]
        alike = [(i, n) for i, n in strangers if cases[i].kinds[n] == like]
        yield _trial(cases, index, "any", [kept, strangers[int(rng.integers(len(strangers)))]])
        if alike and index % 2:
            yield _trial(cases, index, "alike", [kept, alike[int(rng.integers(len(alike)))]])


def _trial(cases: Sequence[Case], index: int, absent: Absent, subjects: Sequence[tuple[int, int]]) -> Trial:
    masks = np.stack(instance_masks(cases[index]))
    nowhere = np.zeros_like(masks[0])
    return Trial(
        index=index,
        group=cases[index].group,
        absent=absent,
        picture=cases[index].true,
        references=tuple(cases[i].references[n] for i, n in subjects),
        subjects=tuple(subjects),
        truth=np.stack([masks[n] if i == index else nowhere for i, n in subjects]),
        others=masks,
    )
