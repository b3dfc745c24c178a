"""One character of a picture drawn again, inside its own routing mask, while its score says that it failed.

Everything outside the mask stays as it is, bit for bit. Who is missing has no pixels and cannot be drawn again so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from anystory.engine.backends.base import DrawnPicture
from anystory.engine.character_mask import feathered
from anystory.engine.job import Job
from anystory.engine.record.schema import CandidateRecord
from anystory.evaluation.metrics.presence import ALIKE

__all__ = ["Attempt", "failed_subject", "redraw_job"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Attempt:
    """A picture, what drew it, and its scores."""

    picture: DrawnPicture
    job: Job
    score: CandidateRecord


def failed_subject(score: CandidateRecord) -> int | None:
    """The place of the worst subject that failed: doubled, or its likeness less the leak below `ALIKE`.

    None if no subject failed that could be drawn again.
    """
    return min(_failed(score), default=(0.0, None))[1]


def _failed(score: CandidateRecord) -> Iterator[tuple[float, int]]:
    for place, subject in enumerate(score.subjects):
        own = subject.identity - subject.leak
        if subject.present and (subject.doubled or own < ALIKE):
            yield own, place


def redraw_job(attempt: Attempt, place: int, folder: Path) -> Job | None:
    """The job that draws one subject of a picture again; None where its mask is too thin for that.

    Args:
        attempt: The picture.
        place: Of the subject.
        folder: Where the picture and the mask are written for the job.
    """
    assert attempt.picture.routing is not None
    image = attempt.picture.image.convert("RGB")
    mask = feathered(attempt.picture.routing.masks((image.height, image.width))[place])
    if not mask.any():
        return None
    drawn, white = folder / "picture.png", folder / "mask.png"
    image.save(drawn)
    Image.fromarray(mask).save(white)
    return replace(attempt.job, image=drawn, mask=white, strength=1.0, background_seed=None, width=None, height=None)
