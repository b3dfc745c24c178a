"""Measures that compare pictures with one another: diversity, and ViStoryBench's means over a story."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from anystory.evaluation.benchmarks.cases import BenchmarkCase
from anystory.evaluation.benchmarks.looks import CLIP, PictureLook, References
from anystory.evaluation.bootstrap import Scores
from anystory.evaluation.metrics.background import diversity
from anystory.evaluation.metrics.copy_paste import copy_paste_scores
from anystory.evaluation.metrics.presence import on_stage_count

__all__ = ["diversities", "story_scores"]


def diversities(cases: Sequence[BenchmarkCase], looks: Sequence[PictureLook]) -> list[Scores]:
    """The diversity of each prompt's pictures, as a score of its first one."""
    own: dict[str, list[int]] = defaultdict(list)
    for place, case in enumerate(cases):
        own[case.key].append(place)
    scores: list[Scores] = [{} for _ in cases]
    for places in own.values():
        if "DINO" not in looks[places[0]].whole:
            continue
        found = diversity(np.stack([looks[place].whole["DINO"] for place in places]))
        if found is not None:
            scores[places[0]] = {"diversity": (found, 1.0)}
    return scores


def story_scores(
    cases: Sequence[BenchmarkCase], looks: Sequence[PictureLook], references: Sequence[Sequence[References]]
) -> list[Scores]:
    """CIDS, copy-paste and OCCM as ViStoryBench averages them; see `measures.MEASURES`.

    A character's value is the mean over its pictures (CIDS self: over pairs of them, 1 for a single one), a story's the
    mean over its characters that have a picture at all, the benchmark's the mean over stories. Characters that are
    never found have 0, but in the copy-paste score, which leaves them out. What a picture adds to these means is its
    score, with the weight that it has there, so that sums over pictures are the means, and stories can be resampled.

    Args:
        cases, looks: One of each for a picture.
        references: Of each subject of each picture.
    """
    scores: list[dict[str, tuple[float, float]]] = [{} for _ in cases]
    stories: dict[str, list[int]] = defaultdict(list)
    for place, case in enumerate(cases):
        stories[case.cluster].append(place)
    for places in stories.values():
        if CLIP in looks[places[0]].whole:
            _add_story(scores, places, cases, looks, references)
        counted = [place for place in places if looks[place].found >= 0 and cases[place].subjects]
        for place in counted:
            value = on_stage_count(looks[place].found, len(cases[place].subjects))
            scores[place]["OCCM"] = (value / len(counted), 1 / len(counted))
    return list(scores)


def _add_story(
    scores: list[dict[str, tuple[float, float]]],
    places: Sequence[int],
    cases: Sequence[BenchmarkCase],
    looks: Sequence[PictureLook],
    references: Sequence[Sequence[References]],
) -> None:
    shown: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for place in places:
        for number, subject in enumerate(cases[place].subjects if looks[place].cut else ()):
            shown[subject.name].append((place, number))
    rows = {
        name: [(place, number, looks[place].subjects[CLIP][number]) for place, number in where]
        for name, where in shown.items()
    }
    seen = {name: [one for one in own if np.isfinite(one[2]).all()] for name, own in rows.items()}
    copied = sum(bool(own) for own in seen.values())
    for name, own in seen.items():
        if not own:
            for measure in ("CIDS cross", "CIDS self"):
                _give(scores[shown[name][0][0]], measure, 0.0, 1 / len(seen))
            continue
        place, number, _ = own[0]
        given, features = references[place][number], np.stack([row for _, _, row in own])
        cross = (features @ given.cut[CLIP].T).mean(axis=1)
        copies = copy_paste_scores(features, given.mirrored)
        for (at, _, _), value, copy in zip(own, cross, copies, strict=True):
            _give(scores[at], "CIDS cross", float(value), 1 / len(own) / len(seen))
            _give(scores[at], "copy-paste", float(copy), 1 / len(own) / copied)
        pairs = list(combinations(range(len(own)), 2))
        for a, b in pairs:
            _give(scores[own[a][0]], "CIDS self", float(features[a] @ features[b]), 1 / len(pairs) / len(seen))
        if not pairs:
            _give(scores[place], "CIDS self", 1.0, 1 / len(seen))


def _give(scores: dict[str, tuple[float, float]], measure: str, value: float, weight: float) -> None:
    total, weights = scores.get(measure, (0.0, 0.0))
    scores[measure] = (total + value * weight, weights + weight)
