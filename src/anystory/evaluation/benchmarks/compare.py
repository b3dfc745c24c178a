"""Two runs of one benchmark against each other, on the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anystory.evaluation.benchmarks.measures import LOWER_IS_BETTER
from anystory.evaluation.benchmarks.results import RunScores, ScoredPicture
from anystory.evaluation.bootstrap import Bootstrap, Estimate, estimate

__all__ = ["Difference", "compare_runs", "paired"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One measure in two runs."""

    measure: str
    a: Estimate
    b: Estimate
    difference: Estimate
    """b - a, with the interval of the paired resamples."""

    @property
    def verdict(self) -> str:
        """Which is better, if the interval excludes 0."""
        if not (self.difference.low > 0 or self.difference.high < 0):
            return "no difference shown"
        return "B is better" if (self.difference.value > 0) != (self.measure in LOWER_IS_BETTER) else "A is better"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        estimates = {name: getattr(self, name).to_dict() for name in ("a", "b", "difference")}
        return {"measure": self.measure, **estimates, "verdict": self.verdict}


def paired(a: RunScores, b: RunScores) -> list[tuple[ScoredPicture, ScoredPicture]]:
    """The pictures of both runs that have the same case, prompt and seed.

    Raises:
        ValueError: runs of two benchmarks, or without such pictures.
    """
    if a.benchmark != b.benchmark:
        raise ValueError(f"A is a run of {a.benchmark}, B of {b.benchmark}: compare runs of one benchmark")
    others = {(one.key, one.seed, one.prompt): one for one in b.pictures}
    both = [(one, others[key]) for one in a.pictures if (key := (one.key, one.seed, one.prompt)) in others]
    if not both:
        raise ValueError("no picture of A is in B, too: compare runs with the same cases and seeds")
    return both


def compare_runs(a: RunScores, b: RunScores, group: str | None = None) -> list[Difference]:
    """The measures that both runs have, with intervals over resamples of the same clusters in both.

    Args:
        a, b: The runs.
        group: Only the pictures of this group; None for all.

    Raises:
        ValueError: see `paired`; or no such group.
    """
    both = [pair for pair in paired(a, b) if group in (None, pair[0].group)]
    if not both:
        known = ", ".join(dict.fromkeys(one.group for one in a.pictures))
        raise ValueError(f"there is no group {group!r}: choose from {known}")
    bootstrap, everywhere = Bootstrap(len(both), clusters=[one.cluster for one, _ in both]), np.ones(len(both), bool)

    def ratio(scores: Sequence[Any], measure: str) -> tuple[float, np.ndarray, int]:
        return bootstrap.ratio([one.scores for one in scores], measure, everywhere)

    found = []
    for measure in (name for name in a.measures if name in b.measures):
        of_a, of_b = ratio([one for one, _ in both], measure), ratio([other for _, other in both], measure)
        gap = estimate(of_b[0] - of_a[0], of_b[1] - of_a[1], min(of_a[2], of_b[2]))
        found.append(Difference(measure=measure, a=estimate(*of_a), b=estimate(*of_b), difference=gap))
    return found
