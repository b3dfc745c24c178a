"""Jobs of pictures drawn, together where they are alike; each picture is on disk as soon as it is done."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from anystory.engine.batching import BatchMember, draw_batch
from anystory.engine.cancelling import Cancelled, CancelToken
from anystory.engine.drawing import draw
from anystory.engine.events import Pace, StepDone
from anystory.engine.record.reading import load_record
from anystory.engine.saving import keep, owners_of
from anystory.engine.screening import Screening, UnsafePicture
from anystory.files import atomic_write
from anystory.serving.work.control import Control
from anystory.serving.work.failures import failure
from anystory.serving.work.messages import Done, JobProgress, Message, PictureStored, Stopped, WorkerTask
from anystory.serving.work.picture_work import as_job

if TYPE_CHECKING:
    from PIL import Image

    from anystory.engine.backends.base import DrawnPicture, Model
    from anystory.engine.job import Job
    from anystory.engine.record.schema import PictureRecord

__all__ = ["PictureWorker", "drawn_pictures"]

OUT = "out"
"""In a job's folder: the pictures."""


@dataclass(kw_only=True)
class _Sitting:
    """A job of pictures that is being drawn."""

    task: WorkerTask
    job: Job
    subjects: list[Any]
    """Encoded."""
    missing: list[int]
    """Seeds of the pictures that are not on disk."""
    token: CancelToken
    warnings: list[str]
    ended: bool = False

    @property
    def count(self) -> int:
        """Of all its pictures."""
        return len(self.task.work["seeds"])

    @property
    def kept(self) -> int:
        """Pictures that are on disk."""
        return self.count - len(self.missing)


class _Unit(NamedTuple):
    """A picture that is to be drawn."""

    sitting: _Sitting
    seed: int


@dataclass(kw_only=True)
class PictureWorker:
    """Draws jobs of pictures with a loaded model."""

    model: Model
    batch: int
    """Pictures that are drawn in one call at most."""
    metadata: bool
    """Whether pictures hold their records."""
    screening: Screening
    """What is done to each picture before it is kept."""
    tell: Callable[[Message], None]
    """Hears of everything."""
    control: Control
    _pace: Pace = field(default_factory=Pace)
    _seconds: float | None = None
    """For each step, so far."""
    _ahead: dict[str, int] = field(default_factory=dict)
    """{job: calls of the model until its last picture}."""

    def draw(self, tasks: Sequence[WorkerTask]) -> None:
        """Draw some jobs; each is done, failed or stopped when this returns.

        Pictures that an earlier try has left on disk are not drawn again.

        Raises:
            Exception: a bug, or a device that has failed: this process should end.
        """
        sittings = [sitting for task in tasks if (sitting := self._begin(task)) is not None]
        units = [_Unit(sitting, seed) for sitting in sittings for seed in sitting.missing]
        chunks = [units[start : start + self.batch] for start in range(0, len(units), self.batch)]
        for sitting in sittings:
            self._end(sitting)
        self._pace = Pace()
        for number, chunk in enumerate(chunks):
            self._ahead = {unit.sitting.task.job: later for later, one in enumerate(chunks[number:]) for unit in one}
            open_units = [unit for unit in chunk if not unit.sitting.ended]
            for unit in open_units:
                if unit.sitting.token.cancelled and not unit.sitting.ended:
                    self._stop(unit.sitting)
            self._draw_units([unit for unit in open_units if not unit.sitting.ended])

    def _begin(self, task: WorkerTask) -> _Sitting | None:
        """Read and encode what a job is drawn from; None if it has failed or was cancelled."""
        token = self.control.token(task.job)
        if token.cancelled:
            self.tell(Stopped(job=task.job, paused=False))
            return None
        try:
            there = {record.seed for record in _records(task.folder / OUT).values()}
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                job = as_job(task.work, task.folder)
                subjects = [self.model.encode(files.subject().read()) for files in job.subjects]
        except Exception as error:
            self._fail(task, error)
            return None
        told = [str(one.message).replace(f"{task.folder}/", "") for one in caught if one.category is UserWarning]
        words = self.model.unknown_words(f"{job.prompt} {job.negative_prompt or ''}")
        told += [f"this model does not know the word {word!r}" for word, _ in words]
        return _Sitting(
            task=task,
            job=job,
            subjects=subjects,
            missing=[seed for seed in task.work["seeds"] if seed not in there],
            token=token,
            warnings=list(dict.fromkeys(told)),
        )

    def _draw_units(self, units: list[_Unit]) -> None:
        """Draw some pictures in one call. If that fails, each alone: then it shows who is to blame."""
        if not units:
            return
        try:
            pictures = self._drawn(units)
            for unit, picture in zip(units, pictures, strict=True):
                if not (unit.sitting.token.cancelled or unit.sitting.ended):
                    self._keep(unit, picture)
        except Cancelled:
            pass  # all of them were: they are stopped below
        except Exception as error:
            if len(units) == 1:
                self._fail(units[0].sitting.task, error)
                units[0].sitting.ended = True
                return
            for unit in units:
                if not unit.sitting.ended and unit.seed in unit.sitting.missing:
                    self._draw_units([unit])
        for unit in units:
            self._end(unit.sitting)

    def _drawn(self, units: list[_Unit]) -> list[DrawnPicture]:
        first, work = units[0], units[0].sitting.task.work
        given: dict[str, Any] = {"previews": 0 if self.screening.checks else work["previews"], "routing": True}

        def tell(number: int, step: StepDone) -> None:
            if number == 0:
                self._seconds = self._pace.seconds_left(1)
                if all(unit.sitting.token.cancelled for unit in units):
                    raise Cancelled
            self._tell_step(units, number, step)

        if len(units) == 1:
            listen = {"on_step": lambda step: tell(0, step), "subjects": first.sitting.subjects}
            return list(draw(self.model, first.sitting.job, [first.seed], **given, **listen))
        members = [BatchMember(unit.sitting.job, unit.seed, unit.sitting.subjects) for unit in units]
        return draw_batch(self.model, members, on_step=tell, **given)

    def _tell_step(self, units: list[_Unit], number: int, step: StepDone) -> None:
        """Tell a job of a step: several of its pictures may be in the call, of which the first one tells."""
        sitting = units[number].sitting
        own = [unit for unit in units if unit.sitting is sitting]
        first, share = units[number] is own[0], step.step / step.steps
        if not first and step.preview is None:
            return
        steps_left = step.steps - step.step + self._ahead[sitting.task.job] * step.steps
        self.tell(
            JobProgress(
                job=sitting.task.job,
                picture=sitting.kept + own.index(units[number]) + 1,
                pictures=sitting.count,
                step=step.step,
                steps=step.steps,
                done=(sitting.kept + len(own) * share) / sitting.count,
                seconds_left=None if self._seconds is None else self._seconds * steps_left,
                preview=None if step.preview is None else _png(step.preview),
            )
        )

    def _keep(self, unit: _Unit, picture: DrawnPicture) -> None:
        """Write a picture with its record; the record comes last, and shows that all is there."""
        sitting, out = unit.sitting, unit.sitting.task.folder / OUT
        try:
            picture = self.screening(picture)
        except UnsafePicture as unsafe:  # the job has failed; nothing of it is drawn again, and no other job suffers
            self._fail(sitting.task, unsafe)
            sitting.ended = True
            return
        owners = owners_of(picture)
        if owners is not None:
            from PIL import Image

            with atomic_write(_owners(out, unit.seed)) as temporary:
                Image.fromarray(owners).save(temporary)
        keep(picture, sitting.job, self.model, out, sheet=sitting.task.work["routing"], metadata=self.metadata)
        sitting.missing.remove(unit.seed)
        self.tell(
            PictureStored(job=sitting.task.job, picture=sitting.kept, pictures=sitting.count, together=picture.together)
        )

    def _end(self, sitting: _Sitting) -> None:
        """Tell of a job that has all its pictures, or that was cancelled."""
        if sitting.ended:
            return
        if not sitting.missing:
            sitting.ended = True
            result = {"pictures": drawn_pictures(sitting.task), "warnings": sitting.warnings}
            self.tell(Done(job=sitting.task.job, result=result))
        elif sitting.token.cancelled:
            self._stop(sitting)

    def _stop(self, sitting: _Sitting) -> None:
        sitting.ended = True
        self.tell(Stopped(job=sitting.task.job, paused=False))

    def _fail(self, task: WorkerTask, error: Exception) -> None:
        if (told := failure(task.job, error, task.folder)) is None:
            raise error
        self.tell(told)


def drawn_pictures(task: WorkerTask) -> list[dict[str, Any]]:
    """All pictures of a job, in the order of its seeds, with paths relative to its folder."""
    out = task.folder / OUT
    by_seed = {record.seed: (path, record) for path, record in _records(out).items()}
    found = []
    for seed in task.work["seeds"]:
        path, record = by_seed[seed]
        owners = _owners(out, seed)
        found.append(
            {
                "seed": seed,
                "file": f"{OUT}/{record.picture}",
                "record": f"{OUT}/{path.name}",
                "sheet": None if record.routing_sheet is None else f"{OUT}/{record.routing_sheet}",
                "owners": f"{OUT}/{owners.name}" if owners.exists() else None,
                "subjects": [subject.name for subject in record.subjects],
                "width": record.width,
                "height": record.height,
            }
        )
    return found


def _records(out: Path) -> dict[Path, PictureRecord]:
    """The records of the pictures that are whole."""
    paths = sorted(out.glob("[0-9]*.json")) if out.is_dir() else []
    return {path: load_record(path) for path in paths if path.with_suffix(".png").exists()}


def _owners(out: Path, seed: int) -> Path:
    return out / f"owners-{seed}.png"


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
