"""Shares of hits with bootstrap intervals; pictures are what is resampled, for all rows the same ones."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

Scores = dict[str, tuple[float, float]]
"""Measure -> (hits, trials) of one picture, or a sum and how many it is of; a measure without trials is left out."""

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; NaN where nothing was tried."""

    value: float
    low: float
    high: float
    trials: int

    def to_dict(self) -> dict[str, float | int | None]:
        """For JSON: no number is None."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        return {k: None if np.isnan(v) else round(v, 5) for k, v in numbers.items()} | {"trials": self.trials}


class Bootstrap:
    """Resamples of `count` pictures, drawn once, so that two rows are compared on the same pictures.

    Args:
        count: Number of pictures.
        seed: Of the draws.
        clusters: What each picture belongs to, such as its subject: whole clusters are drawn, since pictures of one
            are alike. None draws single pictures.
    """

    def __init__(self, count: int, seed: int = 0, clusters: Sequence[Hashable] | None = None) -> None:
        places = {name: place for place, name in enumerate(dict.fromkeys(clusters or range(count)))}
        rng = np.random.default_rng(seed)
        drawn = rng.integers(len(places), size=(RESAMPLES, len(places)))
        weights = np.stack([np.bincount(row, minlength=len(places)) for row in drawn]).astype(float)
        self.weights = weights if clusters is None else weights[:, [places[name] for name in clusters]]
        """(RESAMPLES, count): how often each picture is in each resample."""

    def ratio(self, scores: Sequence[Scores], measure: str, chosen: np.ndarray) -> tuple[float, np.ndarray, int]:
        """Hits per trial over the chosen pictures (bool, one per picture): itself, of each resample, and the trials."""
        counted = np.array([s.get(measure, (0.0, 0.0)) for s in scores], float).reshape(-1, 2) * chosen[:, None]
        hits, trials = counted.sum(axis=0)
        tried = max(round(trials), int(trials > 0))  # weights may be fractions
        resampled = self.weights @ counted
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(np.divide(hits, trials)), resampled[:, 0] / resampled[:, 1], tried

    def share(self, scores: Sequence[Scores], measure: str) -> Estimate:
        """Hits per trial over all pictures, with its interval."""
        return estimate(*self.ratio(scores, measure, np.ones(len(scores), bool)))


def estimate(value: float, resampled: np.ndarray, trials: int) -> Estimate:
    """The value with the middle 95 % of its resamples."""
    usable = resampled[np.isfinite(resampled)]
    if not trials or not len(usable):
        return Estimate(float("nan"), float("nan"), float("nan"), trials)
    low, high = np.percentile(usable, [2.5, 97.5])
    return Estimate(value, float(low), float(high), trials)
