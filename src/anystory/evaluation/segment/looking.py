"""What a pipeline sees in the pictures of trials."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from anystory.evaluation.segment.trials import Trial
from anystory.evaluation.storyworld.cases import Case
from anystory.segment.fusion import Evidence, Fusion
from anystory.subjects import Subject

__all__ = ["encode_cases", "look_at"]

_BATCH = 16
"""References that are encoded at a time."""


def encode_cases(pipe: Any, cases: Sequence[Case]) -> list[list[Any]]:
    """The references of each case, encoded."""
    subjects = [
        Subject(reference, name=f"subject {n + 1}") for case in cases for n, reference in enumerate(case.references)
    ]
    encoded = [one for i in range(0, len(subjects), _BATCH) for one in pipe.encode_subjects(subjects[i : i + _BATCH])]
    found = iter(encoded)
    return [[next(found) for _ in case.references] for case in cases]


def look_at(
    pipe: Any,
    encoded: Sequence[Sequence[Any]],
    trials: Sequence[Trial],
    fusion: Fusion,
    *,
    seed: int = 0,
    advance: Callable[[int], None] = lambda done: None,
) -> Iterator[Evidence]:
    """For each trial, what `segment` would fuse.

    Args:
        pipe: A pipeline with `routing_evidence`.
        encoded: The references of each case.
        trials: Of these cases.
        fusion: Its levels and draws count.
        seed: Added to a scene's index: the seed of its noise, the same in all its trials.
        advance: Called with the number of trials done so far.
    """
    for done, trial in enumerate(trials, start=1):
        subjects = [encoded[i][n] for i, n in trial.subjects]
        generator = torch.Generator().manual_seed(seed + trial.index)
        yield pipe.routing_evidence(trial.picture, subjects, fusion=fusion, generator=generator)
        advance(done)
