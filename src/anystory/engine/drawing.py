"""Draw what a job asks for, one picture after another.

    model = load(ModelOptions(model="mini"))
    job = Job(prompt="a fox on a beach", subjects=(SubjectFiles(image=Path("fox.png")),))
    kept = draw_into(Path("out"), model, job, seeds=[1, 2], on_event=show)

`draw` gives the pictures themselves, `draw_into` writes each with its record as soon as it is done. Both report every
sampling step, and stop between two steps if their token is cancelled. A model draws one job at a time; several jobs
take turns on it. Each picture is drawn in a call of its own, so that its record alone draws it again, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from anystory.engine.backends.base import Backend, DrawnPicture, Model
from anystory.engine.backends.registry import backend_of
from anystory.engine.cancelling import CancelToken
from anystory.engine.events import Event, PictureDone, StepDone
from anystory.engine.job import Job
from anystory.engine.options import ModelOptions
from anystory.engine.saving import Kept, keep
from anystory.engine.steps import StepTeller
from anystory.startup import collections_paused

if TYPE_CHECKING:
    from anystory.pipelines.inputs import EncodedSubject
    from anystory.subjects import Subject

__all__ = ["checked_backend", "draw", "draw_into", "load"]


def checked_backend(options: ModelOptions) -> Backend:
    """The backend of a model, if this machine can load it so.

    Raises:
        ValueError: see `load`; it takes no time to find out.
        FileNotFoundError: a file that is named is missing.
    """
    options.check()
    backend = backend_of(options.model)
    backend.check(options)
    return backend


def load(options: ModelOptions) -> Model:
    """Load a model onto its device, by the backend that it belongs to.

    What libraries print meanwhile is held back. The number of threads in `options`, if any, is set for the process.

    Raises:
        ValueError: no such model, options that do not go together, or that this machine cannot have.
        OSError: a file is missing.
    """
    backend = checked_backend(options)
    with collections_paused():
        import torch

        from anystory.quiet import quiet_loading

        if options.threads is not None:
            torch.set_num_threads(options.threads)
        with quiet_loading():
            return backend.load(options)


def draw(
    model: Model,
    job: Job,
    seeds: Sequence[int],
    *,
    on_step: Callable[[StepDone], None] = lambda step: None,
    cancel: CancelToken | None = None,
    previews: int = 0,
    routing: bool = True,
    subjects: Sequence[Subject | EncodedSubject] | None = None,
) -> Iterator[DrawnPicture]:
    """Draw a job once per seed.

    Args:
        model: What draws.
        job: What is drawn.
        seeds: One for each picture.
        on_step: Called after each sampling step. What it raises ends the job, as cancelling does.
        cancel: Ends the job between two steps. A picture whose last step is done is finished.
        previews: Every so many steps, an event has a preview; 0 for none. `backends.previews` says what one costs.
        routing: Whether to record the routing maps.
        subjects: The job's subjects, if they have been read, or encoded (`Model.encode`), already.

    Raises:
        Cancelled: `cancel` was set; the pictures before are whole.
        ValueError: an argument that the pipeline refuses.
        FloatingPointError: a picture that is not made of numbers, or black all over.
    """
    token = cancel or CancelToken()
    token.check()
    call = model.start(job, subjects if subjects is not None else [subject.subject() for subject in job.subjects])
    steps = StepTeller(len(seeds), token, on_step, previews)
    for number, seed in enumerate(seeds, start=1):
        token.check()
        yield call.draw(seed, routing=routing, on_step=partial(steps.tell, number))


def draw_into(
    out: Path,
    model: Model,
    job: Job,
    seeds: Sequence[int],
    *,
    on_event: Callable[[Event], None] = lambda event: None,
    cancel: CancelToken | None = None,
    previews: int = 0,
    sheet: bool = True,
    metadata: bool = True,
    replay_of: str | None = None,
    subjects: Sequence[Subject | EncodedSubject] | None = None,
) -> list[Kept]:
    """Draw a job once per seed, and write each picture as soon as it is done.

    Args:
        out: Folder; pictures are numbered from the highest number in it on. Nothing in it is overwritten.
        model, job, seeds, cancel, previews, subjects: See `draw`.
        on_event: Called after each step and each picture.
        sheet: Whether to write the sheet of the routing maps, too.
        metadata: Whether the pictures hold their records, too.
        replay_of: The record that is drawn again, to be noted in the new one.

    Raises:
        Cancelled, ValueError, FloatingPointError: see `draw`; nothing of the picture in progress is written.
        OSError: a file cannot be written.
    """
    kept: list[Kept] = []
    pictures = draw(
        model, job, seeds, on_step=on_event, cancel=cancel, previews=previews, routing=sheet, subjects=subjects
    )
    for number, picture in enumerate(pictures, start=1):
        kept.append(keep(picture, job, model, out, sheet=sheet, metadata=metadata, replay_of=replay_of))
        on_event(PictureDone(picture=number, pictures=len(seeds), kept=kept[-1]))
    return kept
