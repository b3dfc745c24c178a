"""`anystory generate`: pictures of your subjects from a prompt."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anystory.cli.flags.best_of import BestOfFlags
from anystory.cli.flags.model import ModelFlags
from anystory.cli.flags.outputs import Metadata, OutFolder, Sheet, check_out_folder
from anystory.cli.flags.picture import PictureFlags
from anystory.cli.flags.spread import spread
from anystory.cli.flags.subject import SubjectFlags
from anystory.cli.terminal.announce import announce
from anystory.cli.terminal.drawing_bar import drawing_bar
from anystory.engine.background import in_background
from anystory.engine.job import Job
from anystory.engine.source import load_source

if TYPE_CHECKING:
    from anystory.engine.backends.base import Model
    from anystory.subjects import Subject

__all__ = ["generate"]

_AT_ONCE = 0.5
"""Seconds within which most pictures are read: a bad one is then reported before the libraries are imported."""


@spread
def generate(
    prompt: Annotated[str, typer.Argument(help='What to draw: "a fox and a robot on a beach".')],
    subjects: SubjectFlags,
    pictures: PictureFlags,
    model: ModelFlags,
    choosing: BestOfFlags,
    out: OutFolder = Path("out"),
    sheet: Sheet = True,
    metadata: Metadata = True,
) -> None:
    """Draw pictures of your subjects from a prompt.

    Writes PNGs and, for each, a sheet of the routing maps and a record. The record is inside the picture, too;
    `anystory replay` draws the picture again from it.
    """
    check_out_folder(out)
    seeds = pictures.seeds()
    choosing.check(seeds, pictures.image)
    job = pictures.job(prompt, subjects.subjects())
    announce(f"loading {model.model}")
    from anystory.cli.terminal.loading import load_model

    draw = choosing.drawing(model.options())
    reading = read_pictures(job)
    loaded = load_model(model.options(), job, first=reading.result)  # bad pictures are reported first
    for line in unknown_words(loaded, job):
        print(f"warning: {line}", file=sys.stderr)
    with drawing_bar("drawing") as show:
        drawn = draw(out, loaded, job, seeds, on_event=show, sheet=sheet, metadata=metadata, subjects=reading.result())
    for one in drawn:
        maps = f", routing maps: {one.files.sheet}" if one.files.sheet else ""
        print(f"{one.files.picture} (seed {one.record.seed}){maps}")


def read_pictures(job: Job) -> Future[list[Subject]]:
    """Read and cut out everything that a job is given; photos that take long are cut while the libraries are imported.

    Returns:
        What gives the subjects, read, or the error of a picture that is found to be bad later.

    Raises:
        ValueError: a picture or mask that cannot be used.
        FileNotFoundError: no such file.
    """
    from anystory.subjects.cutout import BUILT_IN_SEGMENTERS

    subjects = [given.subject() for given in job.subjects]

    def read() -> list[Subject]:
        if job.image is not None:
            load_source(job.image, job.mask)
        return [subject.read() for subject in subjects]

    if {subject.segmenter for subject in subjects} - BUILT_IN_SEGMENTERS.keys():  # a model imports libraries itself
        done: Future[list[Subject]] = Future()
        done.set_result(read())
        return done
    reading = in_background(read)
    if wait([reading], timeout=_AT_ONCE).done:
        reading.result()
    return reading


def unknown_words(model: Model, job: Job) -> Iterator[str]:
    """A line for each word of a job's texts that the model does not know."""
    named = {word for subject in job.subjects if subject.name is not None for word in subject.name.lower().split()}
    for word, nearest in model.unknown_words(f"{job.prompt} {job.negative_prompt or ''}"):
        hint = f"; it knows {', '.join(map(repr, nearest))}" if nearest else ""
        if word in named:
            hint = ": a subject's name is for the results only, the prompt has to say what the subject is"
        yield f"this model does not know the word {word!r}{hint}"
