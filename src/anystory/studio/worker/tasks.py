"""What the drawing process is asked for: values that can be pickled. Heavy packages are imported in `run`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from anystory.engine.cancelling import CancelToken
from anystory.engine.events import StepDone
from anystory.engine.job import Job, SubjectFiles
from anystory.engine.options import ModelOptions
from anystory.studio.packed import png_bytes
from anystory.studio.worker.events import (
    Finished,
    PanelKept,
    PictureKept,
    SamplingProgress,
    Searching,
    SubjectsFound,
    WorkerEvent,
)

if TYPE_CHECKING:
    from anystory.engine.backends.base import Model

__all__ = ["Desk", "DrawScene", "FindSubjects", "RenderStory", "RerollPanel", "Task"]


class Desk(Protocol):
    """What a task has in the process."""

    token: CancelToken
    send: Callable[[WorkerEvent], None]

    def model(self, options: ModelOptions) -> Model:
        """The loaded model."""
        ...


class Task(Protocol):
    """Something to be done."""

    def run(self, desk: Desk) -> Finished:
        """Do it, telling `desk.send` meanwhile."""
        ...


@dataclass(frozen=True, kw_only=True)
class DrawScene:
    """Pictures of one scene."""

    job: Job
    seeds: tuple[int, ...]
    options: ModelOptions
    out: Path
    previews: bool = True

    def run(self, desk: Desk) -> Finished:
        """See `Task.run`."""
        model = desk.model(self.options)
        from anystory.engine.drawing import draw
        from anystory.engine.saving import keep
        from anystory.engine.sheets.routing_sheet import short_layer_name
        from anystory.studio.worker.maps import write_maps

        words = tuple(word for word, _ in model.unknown_words(f"{self.job.prompt} {self.job.negative_prompt or ''}"))
        pictures = draw(
            model,
            self.job,
            self.seeds,
            on_step=lambda step: desk.send(_progress(step)),
            cancel=desk.token,
            previews=1 if self.previews else 0,
        )
        for drawn in pictures:
            kept = keep(drawn, self.job, model, self.out)
            if drawn.routing:
                write_maps(kept.files.picture, drawn.routing, [short_layer_name(name) for name in drawn.routing.layers])
            desk.send(
                PictureKept(
                    picture=kept.files.picture,
                    record=kept.files.record,
                    sheet=kept.files.sheet,
                    seed=drawn.seed,
                    sha256=kept.record.picture_sha256,
                )
            )
        return Finished(words=words)


@dataclass(frozen=True, kw_only=True)
class RenderStory:
    """Panels of a story that are not drawn yet."""

    story: Path
    book: Path
    options: ModelOptions
    library: Path | None
    panels: tuple[int, ...] | None = None
    """Their numbers, from 1; None for all."""

    def run(self, desk: Desk) -> Finished:
        """See `Task.run`."""
        from anystory.story.library import with_library
        from anystory.story.positions import Problem
        from anystory.story.reading import read_story
        from anystory.story.runner.drawing import PanelDrawn, RenderEvent
        from anystory.story.runner.render import render_story

        def tell(event: RenderEvent) -> None:
            if isinstance(event, PanelDrawn):
                desk.send(PanelKept(number=event.task.plan.number, done=event.done, count=event.count))
            else:
                desk.send(_progress(event))

        warned: list[Problem] = []
        render_story(
            with_library(read_story(self.story), self.library),
            self.book,
            self.options,
            panels=self.panels,
            load=desk.model,
            on_event=tell,
            on_warning=warned.append,
            cancel=desk.token,
        )
        return Finished(problems=tuple(warned))


@dataclass(frozen=True, kw_only=True)
class RerollPanel:
    """A further drawing of a panel, or of one character in it."""

    book: Path
    panel: int
    character: str | None = None

    def run(self, desk: Desk) -> Finished:
        """See `Task.run`."""
        from anystory.story.book_folder import read_book
        from anystory.story.runner.reroll import reroll_panel

        reroll_panel(
            read_book(self.book),
            self.panel,
            character=self.character,
            trust_paths=True,  # the book is this studio's own
            load=desk.model,
            on_step=lambda step: desk.send(_progress(step)),
            cancel=desk.token,
        )
        desk.send(PanelKept(number=self.panel, done=1, count=1))
        return Finished()


@dataclass(frozen=True, kw_only=True)
class FindSubjects:
    """Masks of subjects in a picture that is there."""

    picture: Path
    subjects: tuple[SubjectFiles, ...]
    prompt: str
    options: ModelOptions
    out: Path
    """Where the folder of the masks is made."""

    def run(self, desk: Desk) -> Finished:
        """See `Task.run`."""
        model = desk.model(self.options)
        from anystory.engine.segmenting import segment_into

        desk.send(Searching())
        found = segment_into(
            self.out,
            model,
            self.picture,
            self.subjects,
            prompt=self.prompt,
            on_step=lambda step: desk.send(_progress(step)),
            cancel=desk.token,
        )
        desk.send(SubjectsFound(folder=found.folder))
        return Finished()


def _progress(step: StepDone) -> SamplingProgress:
    preview = None if step.preview is None else png_bytes(step.preview)
    told: dict[str, Any] = {name: getattr(step, name) for name in ("picture", "pictures", "step", "steps")}
    return SamplingProgress(**told, seconds_left=step.seconds_left, preview=preview)
