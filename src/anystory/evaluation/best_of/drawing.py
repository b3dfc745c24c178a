"""Candidates drawn, scored, and the best of them written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from anystory.engine.backends.base import DrawnPicture, Model
from anystory.engine.cancelling import CancelToken
from anystory.engine.drawing import draw
from anystory.engine.events import Event, PictureDone
from anystory.engine.job import Job
from anystory.engine.record.schema import CandidateRecord
from anystory.engine.saving import Kept, keep
from anystory.evaluation.best_of.retry import Attempt, failed_subject, redraw_job
from anystory.evaluation.best_of.scoring import Scorer

if TYPE_CHECKING:
    from anystory.pipelines.inputs import EncodedSubject
    from anystory.subjects import Subject

__all__ = ["candidate_seeds", "draw_best"]


def candidate_seeds(seeds: Sequence[int], candidates: int) -> list[list[int]]:
    """The seeds of each picture's candidates: picture i has the next `candidates` after those of picture i - 1.

    Args:
        seeds: Of the pictures, following one another; the first one counts.
        candidates: Of each picture, at least 1.
    """
    first = seeds[0]
    return [list(range(first + i * candidates, first + (i + 1) * candidates)) for i in range(len(seeds))]


def draw_best(
    out: Path,
    model: Model,
    job: Job,
    seeds: Sequence[int],
    candidates: int,
    scorer: Scorer,
    *,
    retries: int = 0,
    on_event: Callable[[Event], None] = lambda event: None,
    cancel: CancelToken | None = None,
    sheet: bool = True,
    metadata: bool = True,
    subjects: Sequence[Subject | EncodedSubject] | None = None,
) -> list[Kept]:
    """Draw several candidates of each picture, and write the one with the best score, with the scores of all.

    The others are not written; their seeds stand in the record, and each draws its picture again.

    Args:
        seeds: See `candidate_seeds`.
        candidates: Of each picture, at least 1.
        scorer: Scores them.
        retries: How often a character of the best one that failed is drawn again (`retry.failed_subject`). What is
            drawn over is then kept beside the picture, as with `Job.image`.
        out, model, job, on_event, cancel, sheet, metadata, subjects: See `engine.drawing.draw_into`. A picture is done
            when all its candidates are.

    Raises:
        Cancelled, ValueError, FloatingPointError, OSError: see there.
    """
    groups = candidate_seeds(seeds, candidates)
    every = [seed for group in groups for seed in group]
    drawing = partial(draw, model, on_step=on_event, cancel=cancel, routing=True, subjects=subjects)
    drawn, kept = drawing(job, every), []
    for number, group in enumerate(groups, start=1):
        best, scores = _best(drawn, len(group), scorer, job)
        with TemporaryDirectory(prefix="anystory-") as folder:  # until what is drawn over has been copied
            for retry in range(retries):
                again = _retried(best, group[-1] + 1 + retry, drawing, scorer, Path(folder, str(retry)))
                if again is None:
                    break
                scores.append(again.score)
                best = max(best, again, key=lambda one: one.score.total)
            files = {"sheet": sheet, "metadata": metadata, "candidates": tuple(scores)}
            kept.append(keep(best.picture, best.job, model, out, **files))
        on_event(PictureDone(picture=number, pictures=len(groups), kept=kept[-1]))
    return kept


def _best(drawn: Iterator[DrawnPicture], count: int, scorer: Scorer, job: Job) -> tuple[Attempt, list[CandidateRecord]]:
    """The best of the next pictures, the first of equal ones, and the scores of all; only one picture is held."""
    best, scores = None, []
    for picture in islice(drawn, count):
        scores.append(scorer.score(picture, job.prompt))
        if best is None or scores[-1].total > best.score.total:
            best = Attempt(picture=picture, job=job, score=scores[-1])
    assert best is not None
    return best, scores


def _retried(
    best: Attempt, seed: int, drawing: Callable[[Job, list[int]], Iterator[DrawnPicture]], scorer: Scorer, folder: Path
) -> Attempt | None:
    """The picture with its worst subject drawn again; None if nobody failed."""
    place = failed_subject(best.score)
    folder.mkdir()
    job = None if place is None else redraw_job(best, place, folder)
    if place is None or job is None:
        return None
    [picture] = drawing(job, [seed])
    score = replace(scorer.score(picture, job.prompt), redrawn=place + 1)
    return Attempt(picture=picture, job=job, score=score)
