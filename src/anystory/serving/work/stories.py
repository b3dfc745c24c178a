"""A story drawn panel by panel. When others wait, it stops between two panels, and is continued later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anystory.engine.cancelling import Cancelled, CancelToken
from anystory.serving.work.control import Control
from anystory.serving.work.failures import failure
from anystory.serving.work.messages import Done, JobProgress, Message, PictureStored, Stopped, WorkerTask
from anystory.story.positions import Problem
from anystory.story.reading import read_story
from anystory.story.runner.drawing import PanelDrawn, RenderEvent
from anystory.story.runner.render import render_story

if TYPE_CHECKING:
    from anystory.engine.backends.base import Model
    from anystory.engine.screening import Screening

__all__ = ["BOOK", "STORY", "StoryWorker"]

STORY, BOOK = "story.json", "book"
"""In a job's folder: the story file and the book."""


@dataclass(kw_only=True)
class StoryWorker:
    """Draws stories with a loaded model."""

    model: Model
    screening: Screening
    """What is done to each panel before it is kept."""
    tell: Callable[[Message], None]
    control: Control

    def draw(self, task: WorkerTask) -> None:
        """Draw what of a story is not drawn yet; it is done, failed or stopped when this returns.

        Raises:
            Exception: a bug, or a device that has failed: this process should end.
        """
        asked, token = self.control.token(task.job), CancelToken()
        warnings: list[str] = []

        def hear(event: RenderEvent) -> None:
            if asked.cancelled or (self.control.paused and isinstance(event, PanelDrawn)):
                token.cancel()
            self._tell(task.job, event)

        try:
            render_story(
                read_story(task.folder / STORY),
                task.folder / BOOK,
                self.model.options,
                best_of=task.work["best_of"],
                load=lambda options: self.model,
                on_warning=lambda problem: warnings.append(_said(problem)),
                on_event=hear,
                cancel=token,
                screen=self.screening,
            )
        except Cancelled:
            self.tell(Stopped(job=task.job, paused=not asked.cancelled))
        except Exception as error:
            if (told := failure(task.job, error, task.folder)) is None:
                raise
            self.tell(told)
        else:
            self.tell(Done(job=task.job, result={"warnings": warnings}))

    def _tell(self, job: str, event: RenderEvent) -> None:
        if isinstance(event, PanelDrawn):
            self.tell(PictureStored(job=job, picture=event.task.plan.number, pictures=event.count))
        else:
            self.tell(JobProgress.of(job, event))


def _said(problem: Problem) -> str:
    """A problem without the file's folder."""
    return f"{problem.mark.line}:{problem.mark.column}: {problem.text}"
