"""Several jobs drawn in one call of the model, which takes less time than one call for each.

    members = [BatchMember(job, seed, subjects), …]        # whose jobs are all `alike`
    pictures = draw_batch(model, members, on_step=show)

The pictures are those of `drawing.draw` but for rounding: how a matrix product is rounded depends on its size. A record
says how many pictures were drawn together; its replay, which draws the picture alone, may differ in last bits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from anystory.engine.backends.base import BatchStep, DrawnPicture, Model
from anystory.engine.cancelling import CancelToken
from anystory.engine.events import Pace, StepDone
from anystory.engine.job import Job

if TYPE_CHECKING:
    from anystory.pipelines.inputs import EncodedSubject
    from anystory.subjects import Subject

__all__ = ["BatchMember", "alike", "draw_batch"]

_SAME = ("steps", "guidance", "true_cfg", "isolation", "text_gate", "routing", "width", "height")
"""Numbers of a call, which all its pictures have."""


class BatchMember(NamedTuple):
    """A picture of a batch."""

    job: Job
    seed: int
    subjects: Sequence[Subject | EncodedSubject]
    """The job's, read or encoded."""


def alike(job: Job) -> str | None:
    """A text that jobs have in common which can be drawn together; None for one that is drawn alone.

    With subjects, or with a negative prompt, the model has other defaults: jobs with and without do not mix.
    """
    if job.image is not None or job.background_seed is not None:
        return None
    kind = [bool(job.subjects), job.negative_prompt is not None]
    return json.dumps([*(getattr(job, name) for name in _SAME), *kind])


def draw_batch(
    model: Model,
    members: Sequence[BatchMember],
    *,
    on_step: Callable[[int, StepDone], None] = lambda number, step: None,
    cancel: CancelToken | None = None,
    previews: int = 0,
    routing: bool = True,
) -> list[DrawnPicture]:
    """Draw one picture of each member, all in one call.

    Args:
        model: What draws; its backend `draws_batches`.
        members: At least one; their jobs are `alike`.
        on_step: Called after each sampling step for each member, by its number from 0. What it raises ends the batch.
        cancel, previews, routing: See `drawing.draw`.

    Raises:
        Cancelled, ValueError, FloatingPointError: see `drawing.draw`; none of the pictures is there then. Drawn alone,
            those that are not to blame may be.
    """
    token, pace = cancel or CancelToken(), Pace()
    assert len({alike(member.job) for member in members}) == 1, "jobs of one call are alike"

    def tell(step: BatchStep) -> None:
        seconds = pace.seconds_left(step.count - step.number)
        shown = previews and step.number % previews == 0
        for number in range(len(members)):
            event = StepDone(
                picture=1,
                pictures=1,
                step=step.number,
                steps=step.count,
                seconds_left=seconds,
                preview=step.preview(number) if shown else None,
            )
            on_step(number, event)
        if step.number < step.count:  # after its last step a picture is finished
            token.check()

    token.check()
    batch = model.start_batch([member.job for member in members], [member.subjects for member in members])
    return batch.draw([member.seed for member in members], routing=routing, on_step=tell)
