"""Candidates drawn one after the other, with the time that is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from anystory.engine.cancelling import CancelToken
from anystory.engine.drawing import draw
from anystory.engine.encodings import Encodings
from anystory.engine.events import Pace, StepDone
from anystory.engine.saving import owners_of
from anystory.story.book_folder import CandidateFacts, PanelCandidate
from anystory.story.runner.keeping import keep_candidate
from anystory.story.runner.tasks import PanelTask

if TYPE_CHECKING:
    from anystory.engine.backends.base import DrawnPicture, Model

__all__ = ["PanelDrawn", "RenderEvent", "draw_tasks"]


@dataclass(frozen=True, kw_only=True)
class PanelDrawn:
    """A candidate of a panel is on disk."""

    task: PanelTask
    done: int
    """Tasks that are done, this one included."""
    count: int
    """Of all tasks."""
    candidate: PanelCandidate


RenderEvent: TypeAlias = StepDone | PanelDrawn
"""In the order in which they come; a step's `picture` counts tasks."""


def draw_tasks(
    book: Path,
    tasks: Sequence[PanelTask],
    model: Model,
    encodings: Encodings,
    *,
    on_event: Callable[[RenderEvent], None] = lambda event: None,
    cancel: CancelToken | None = None,
    sheet: bool = True,
    screen: Callable[[DrawnPicture], DrawnPicture] | None = None,
) -> list[PanelCandidate]:
    """Draw candidates one after the other, each written as soon as it is done.

    Args:
        book: The book's folder, held by `book_writer`.
        tasks: What to draw.
        model: What draws.
        encodings: The cast.
        on_event: Called after each step and each candidate.
        cancel: Ends the drawing between two steps; what is on disk stays.
        sheet: Whether to write the sheets of the routing maps.
        screen: Called with each picture before it is kept; what it returns is kept, what it raises ends the drawing.

    Raises:
        Cancelled, ValueError, FloatingPointError: see `engine.drawing.draw`.
        OSError: a file cannot be written.
    """
    numbers = [model.numbers(task.plan.job) for task in tasks]
    steps = _BookSteps([own.ahead + own.steps for own in numbers], on_event)
    drawn = []
    for task in tasks:
        job = task.plan.job
        subjects = encodings.encoded(model, job.subjects)
        [picture] = draw(model, job, [task.seed], on_step=steps.tell, cancel=cancel, subjects=subjects)
        picture = picture if screen is None else screen(picture)
        owners = owners_of(picture)
        facts = CandidateFacts(seed=task.seed, origin="render", subjects=task.plan.subjects, base=task.plan.base)
        drawn.append(
            keep_candidate(book, task.plan.key, task.number, facts, picture, job, model, owners=owners, sheet=sheet)
        )
        steps.done += 1
        on_event(PanelDrawn(task=task, done=len(drawn), count=len(tasks), candidate=drawn[-1]))
    return drawn


@dataclass
class _BookSteps:
    """Tells the steps of all tasks, with the time that is left."""

    counts: list[int]
    """Steps of each task."""
    on_event: Callable[[RenderEvent], None]
    pace: Pace = field(default_factory=Pace)
    done: int = 0

    def tell(self, step: StepDone) -> None:
        """A step of the task in progress is done."""
        left = step.steps - step.step + sum(self.counts[self.done + 1 :])
        self.on_event(
            StepDone(
                picture=self.done + 1,
                pictures=len(self.counts),
                step=step.step,
                steps=step.steps,
                seconds_left=self.pace.seconds_left(left),
            )
        )
