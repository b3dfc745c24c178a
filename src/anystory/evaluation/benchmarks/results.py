"""A run's scores: for each picture, in total, by subject and by group, with intervals; as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anystory.evaluation.benchmarks.measures import MEASURES
from anystory.evaluation.bootstrap import Bootstrap, Estimate, Scores, estimate
from anystory.files import atomic_write
from anystory.input_files import read_object

__all__ = ["FORMAT", "SCORES", "RunScores", "ScoredPicture", "read_scores"]

FORMAT = "anystory-scores/1"
SCORES = "scores.json"
_REMEDY = "name a folder that an evaluation wrote, or its scores.json"


@dataclass(frozen=True, kw_only=True)
class ScoredPicture:
    """A picture with its scores."""

    key: str
    seed: int
    prompt: str
    group: str
    cluster: str
    """See `cases.BenchmarkCase.cluster`."""
    picture: str
    """Relative to the run's folder."""
    scores: Scores
    """Of the whole picture."""
    subjects: Mapping[str, Scores] = field(default_factory=dict)
    """{subject: its own}."""


@dataclass(frozen=True, kw_only=True)
class RunScores:
    """All of a run."""

    benchmark: str
    reports: tuple[str, ...]
    """The measures that the benchmark's papers report; the first one ranks pictures."""
    facts: Mapping[str, Any]
    """Model, settings, encoders, machine: what shaped the scores."""
    pictures: tuple[ScoredPicture, ...]

    @property
    def measures(self) -> tuple[str, ...]:
        """All that a picture has, those that papers report first."""
        there = {measure for picture in self.pictures for measure in picture.scores}
        found = [*(measure for measure in MEASURES if measure in there), *sorted(there - MEASURES.keys())]
        return (
            *(name for name in self.reports if name in found),
            *(name for name in found if name not in self.reports),
        )

    def total(self) -> dict[str, Estimate]:
        """{measure: its value}; whole clusters are resampled."""
        return self._estimates(self.pictures, [one.scores for one in self.pictures])

    def by_group(self) -> dict[str, dict[str, Estimate]]:
        """The same for each group."""
        return {
            group: self._estimates(chosen, [one.scores for one in chosen])
            for group, chosen in self._split(lambda one: [one.group]).items()
        }

    def by_subject(self) -> dict[str, dict[str, Estimate]]:
        """The same for each subject, over the pictures that should show it; prompts are resampled."""
        return {
            name: self._estimates(chosen, [one.subjects[name] for one in chosen], prompts=True)
            for name, chosen in self._split(lambda one: one.subjects).items()
        }

    def _split(self, of: Callable[[ScoredPicture], Iterable[str]]) -> dict[str, list[ScoredPicture]]:
        found: dict[str, list[ScoredPicture]] = {}
        for picture in self.pictures:
            for name in of(picture):
                found.setdefault(name, []).append(picture)
        return found

    def _estimates(
        self, pictures: Sequence[ScoredPicture], scores: Sequence[Scores], *, prompts: bool = False
    ) -> dict[str, Estimate]:
        clusters = [one.key if prompts else one.cluster for one in pictures]
        bootstrap, everywhere = Bootstrap(len(pictures), clusters=clusters), np.ones(len(pictures), bool)
        return {
            measure: estimate(*bootstrap.ratio(scores, measure, everywhere))
            for measure in dict.fromkeys(name for own in scores for name in own)
        }

    def save(self, folder: Path) -> None:
        """Write `scores.json`; an older one is replaced."""
        data = {
            "format": FORMAT,
            "benchmark": self.benchmark,
            "reports": list(self.reports),
            **self.facts,
            "total": _as_dicts(self.total()),
            "by_group": {name: _as_dicts(own) for name, own in self.by_group().items()},
            "by_subject": {name: _as_dicts(own) for name, own in self.by_subject().items()},
            "pictures": [vars(picture) for picture in self.pictures],
        }
        with atomic_write(folder / SCORES) as temporary:
            temporary.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _as_dicts(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: found.to_dict() for name, found in estimates.items()}


def read_scores(place: Path) -> RunScores:
    """Read a run's scores.

    Args:
        place: The run's folder, or its `scores.json`.

    Raises:
        ValueError: it is not that.
        OSError: it cannot be read.
    """
    path = place / SCORES if place.is_dir() else place
    data = read_object(path, _REMEDY)
    if data.get("format") != FORMAT:
        raise ValueError(f"{path} has no scores of this version, expected format {FORMAT!r}: {_REMEDY}")
    try:
        pictures = tuple(_picture(one) for one in data["pictures"])
        kept = ("model", "settings", "encoders", "environment", "weights", "date", "data", "notes")
        facts = {name: data[name] for name in kept if name in data}
        reports = tuple(map(str, data["reports"]))
        return RunScores(benchmark=str(data["benchmark"]), reports=reports, facts=facts, pictures=pictures)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error!r:.80}): {_REMEDY}") from None


def _picture(data: Mapping[str, Any]) -> ScoredPicture:
    def scores(found: Mapping[str, Any]) -> Scores:
        return {str(name): (float(total), float(trials)) for name, (total, trials) in found.items()}

    subjects = {str(name): scores(own) for name, own in data["subjects"].items()}
    texts = {name: str(data[name]) for name in ("key", "prompt", "group", "cluster", "picture")}
    return ScoredPicture(**texts, seed=int(data["seed"]), scores=scores(data["scores"]), subjects=subjects)
