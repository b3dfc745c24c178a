"""A benchmark's pictures, each on disk as soon as it is drawn: a run that is killed resumes where it was."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from anystory.engine.drawing import checked_backend, draw, load
from anystory.engine.encodings import Encodings
from anystory.engine.job import Job, SubjectFiles
from anystory.engine.options import ModelOptions
from anystory.engine.picture_folder import keep_folder
from anystory.engine.saving import owners_of
from anystory.evaluation.benchmarks.cases import BenchmarkCase
from anystory.process_pool import in_order
from anystory.startup import import_libraries

__all__ = ["NOTES", "BenchmarkTask", "DrawSettings", "check_references", "draw_benchmark", "tasks_of"]

NOTES = "notes.json"
"""What the model warned about while a picture was drawn."""
_PICTURES = "pictures"


@dataclass(frozen=True, kw_only=True)
class DrawSettings:
    """How all pictures of a run are drawn; None leaves a number to the model."""

    seed: int = 0
    """Of the first picture of each prompt; those of the others follow."""
    per_prompt: int = 1
    steps: int | None = None
    guidance: float | None = None
    width: int | None = None
    height: int | None = None
    segmenter: str = "auto"
    """What cuts the subjects out of the references."""
    layout: bool = False
    """Whether subjects are held to the benchmark's boxes, where it has some."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkTask:
    """One picture."""

    case: BenchmarkCase
    seed: int

    def folder(self, out: Path) -> Path:
        """Where the picture is kept, with its record."""
        return out / _PICTURES / self.case.folder / str(self.seed)

    def picture(self, out: Path) -> Path:
        """The picture."""
        return self.folder(out) / "0001.png"

    def job(self, settings: DrawSettings) -> Job:
        """What is to be drawn.

        Raises:
            ValueError: a value that cannot be.
        """
        return Job(
            prompt=self.case.prompt,
            subjects=_subjects(self.case, settings),
            steps=settings.steps,
            guidance=settings.guidance,
            width=settings.width,
            height=settings.height,
        )


def tasks_of(cases: Sequence[BenchmarkCase], settings: DrawSettings) -> list[BenchmarkTask]:
    """All pictures of a run, in their order."""
    seeds = range(settings.seed, settings.seed + settings.per_prompt)
    return [BenchmarkTask(case=case, seed=seed) for case in cases for seed in seeds]


def check_references(cases: Sequence[BenchmarkCase], settings: DrawSettings) -> None:
    """Read every reference, before a model is loaded.

    Raises:
        ValueError: one that cannot be used.
        OSError: one that cannot be read.
    """
    reading = Encodings()
    for subject in dict.fromkeys(one.image for case in cases for one in case.subjects):
        fault = reading.fault(SubjectFiles(image=subject, settings={"segmenter": settings.segmenter}))
        if fault is not None:
            raise ValueError(f"{fault} (a benchmark's references are cut out by --segmenter)")


def draw_benchmark(
    out: Path,
    tasks: Sequence[BenchmarkTask],
    settings: DrawSettings,
    options: ModelOptions,
    *,
    jobs: int = 1,
    sheet: bool = False,
    drawn: Callable[[int], None] = lambda done: None,
) -> int:
    """Draw what is not there yet.

    Args:
        out: The run's folder, held by the caller.
        tasks, settings: What to draw.
        options: Which model draws.
        jobs: Processes that draw, each with a model and one thread of its own; 1 draws in this one.
        sheet: Whether to write the sheets of the routing maps.
        drawn: Told how many pictures are done, after each.

    Returns:
        How many were drawn.

    Raises:
        ValueError, OSError, FloatingPointError: see `engine.drawing`; the pictures before are kept.
    """
    left = [task for task in tasks if not task.folder(out).is_dir()]
    if not left:
        return 0
    make = partial(_BenchmarkDrawer, out, settings, options, sheet)
    workers = 0 if min(jobs, len(left)) == 1 else min(jobs, len(left))
    with closing(in_order(make, left, workers, chunk=1)) as done:
        for number, _ in enumerate(done, start=1):
            drawn(len(tasks) - len(left) + number)
    return len(left)


class _BenchmarkDrawer:
    """Draws one picture after the other, with a model that it loads."""

    def __init__(self, out: Path, settings: DrawSettings, options: ModelOptions, sheet: bool) -> None:
        import_libraries(checked_backend(options).modules)
        self._out, self._settings, self._sheet = out, settings, sheet
        self._model, self._encodings = load(options), Encodings()

    def __call__(self, task: BenchmarkTask) -> None:
        """Draw and write a picture."""
        job = task.job(self._settings)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            subjects = self._encodings.encoded(self._model, job.subjects)
            [picture] = draw(self._model, job, [task.seed], subjects=subjects)
        unknown = [f"the model does not know the word {word!r}" for word, _ in self._model.unknown_words(job.prompt)]
        notes = sorted({str(one.message) for one in caught if issubclass(one.category, UserWarning)} | {*unknown})
        texts = {NOTES: json.dumps(notes, ensure_ascii=False) + "\n"}
        owners, folder = owners_of(picture), task.folder(self._out)
        keep_folder(folder, self._out, picture, job, self._model, owners=owners, texts=texts, sheet=self._sheet)


def _subjects(case: BenchmarkCase, settings: DrawSettings) -> tuple[SubjectFiles, ...]:
    found = []
    for subject in case.subjects:
        own: dict[str, Any] = {"segmenter": settings.segmenter}
        if settings.layout and subject.region is not None:
            own["region"] = subject.region
        found.append(SubjectFiles(image=subject.image, name=subject.name, settings=own))
    return tuple(found)
