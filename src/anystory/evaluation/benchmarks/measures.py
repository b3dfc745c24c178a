"""From what was seen of a picture to sums and counts, for the whole picture and for each subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from anystory.evaluation.benchmarks.cases import BenchmarkCase
from anystory.evaluation.benchmarks.looks import CLIP, PictureLook, References
from anystory.evaluation.bootstrap import Scores
from anystory.evaluation.metrics.copy_paste import copy_paste_scores
from anystory.evaluation.metrics.presence import on_stage_count
from anystory.evaluation.metrics.similarity import product_over_subjects, similarity, text_similarity

__all__ = ["LOWER_IS_BETTER", "MEASURES", "CaseScores", "score_picture"]

MEASURES = {
    "DINO": "cosine of the whole picture with the subject's pictures, by DINO",
    "CLIP-I": "cosine of the whole picture with the subject's pictures, by CLIP",
    "DINOv2": "cosine of the whole picture with the subject's pictures, by DINOv2",
    "M-DINO": "product of DINO over the picture's subjects",
    "CLIP-T": "cosine of the picture with its prompt, by CLIP",
    "DINO cut out": "cosine of the subject cut out of the picture with its pictures cut out, by DINO",
    "CLIP-I cut out": "cosine of the subject cut out of the picture with its pictures cut out, by CLIP",
    "DINOv2 cut out": "cosine of the subject cut out of the picture with its pictures cut out, by DINOv2",
    "missing": "share of subjects that nothing of the picture belongs to",
    "doubled": "share of subjects whose routing mask has two large parts",
    "copy-paste": "how much more a subject is like its reference than like the mirrored one; 0.5 is no preference",
    "diversity": "one minus the mean DINO cosine of pictures of one prompt",
    "CIDS cross": "ViStoryBench: cosine of a character cut out with its references, mean over characters and stories",
    "CIDS self": "ViStoryBench: cosine of a character with itself in the other pictures of the story",
    "OCCM": "ViStoryBench: whether as many characters are found as should be there",
}
"""Measure -> what it is. A subject that is missing counts 0 where it is to be cut out."""

LOWER_IS_BETTER = ("missing", "doubled", "copy-paste", "leak", "copied pose", "pose of the reference")
"""The last ones are measured on StoryWorld."""

_IMAGE = {CLIP: "CLIP-I"}
"""Encoder -> what its similarity to pictures is called, if not by its own name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CaseScores:
    """One picture's."""

    picture: Scores
    """Over all subjects."""
    subjects: Mapping[str, Scores]
    """{subject: its own}."""


def score_picture(case: BenchmarkCase, look: PictureLook, references: Sequence[References]) -> CaseScores:
    """Every measure that one picture has by itself.

    Args:
        case: What was asked for.
        look: What was seen.
        references: One for each subject.
    """
    own: dict[str, dict[str, tuple[float, float]]] = {}
    for number, (subject, given) in enumerate(zip(case.subjects, references, strict=True)):
        # A name that occurs twice in one picture is one subject, with the sums of both.
        for measure, pair in _of_subject(number, look, given).items():
            _add(own.setdefault(subject.name, {}), measure, pair)
    scores: dict[str, tuple[float, float]] = {}
    for found in own.values():
        for measure, pair in found.items():
            _add(scores, measure, pair)
    if CLIP in look.whole and look.text.size:
        scores["CLIP-T"] = (float(text_similarity(look.whole[CLIP][None], look.text[None])[0]), 1.0)
    if "DINO" in look.whole and references:
        values = [similarity(look.whole["DINO"][None], given.whole["DINO"]) for given in references]
        scores["M-DINO"] = (product_over_subjects(values), 1.0)
    if look.found >= 0 and case.subjects:
        scores["OCCM"] = (on_stage_count(look.found, len(case.subjects)), 1.0)
    return CaseScores(picture=scores, subjects=own)


def _of_subject(number: int, look: PictureLook, given: References) -> Scores:
    scores: Scores = {}
    for name, whole in look.whole.items():
        measure = _IMAGE.get(name, name)
        scores[measure] = (similarity(whole[None], given.whole[name]), 1.0)
        if look.cut:
            row = look.subjects[name][number]
            there = bool(np.isfinite(row).all())
            scores[f"{measure} cut out"] = (similarity(row[None], given.cut[name]) if there else 0.0, 1.0)
            scores["missing"] = (float(not there), 1.0)
            if there and name == CLIP:
                scores["copy-paste"] = (float(copy_paste_scores(row[None], given.mirrored)[0]), 1.0)
    if look.cut and number < len(look.doubled):
        scores["doubled"] = (float(look.doubled[number]), 1.0)
    return scores


def _add(scores: dict[str, tuple[float, float]], measure: str, pair: tuple[float, float]) -> None:
    total, trials = scores.get(measure, (0.0, 0.0))
    scores[measure] = (total + pair[0], trials + pair[1])
