"""Subjects found in a picture that exists: masks, layers and an overlay in the job's folder."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anystory.engine.cancelling import Cancelled, CancelToken
from anystory.engine.record.segmentation import RECORD, load_segmentation
from anystory.engine.segmenting import segment_into
from anystory.serving.work.control import Control
from anystory.serving.work.failures import failure
from anystory.serving.work.messages import Done, JobProgress, Message, Stopped, WorkerTask
from anystory.serving.work.picture_work import as_subjects

if TYPE_CHECKING:
    from anystory.engine.backends.base import Model

__all__ = ["SegmentWorker"]

OUT = "out"
"""In a job's folder: what was found."""


@dataclass(kw_only=True)
class SegmentWorker:
    """Finds subjects with a loaded model."""

    model: Model
    tell: Callable[[Message], None]
    control: Control

    def draw(self, task: WorkerTask) -> None:
        """Find a task's subjects; it is done, failed or stopped when this returns.

        What an earlier try has found is kept. A task that is cancelled meanwhile stops after the look in progress.

        Raises:
            Exception: a bug, or a device that has failed: this process should end.
        """
        token = self.control.token(task.job)
        try:
            token.check()
            result = self._found(task, token)
        except Cancelled:
            self.tell(Stopped(job=task.job, paused=False))
        except Exception as error:
            if (told := failure(task.job, error, task.folder)) is None:
                raise
            self.tell(told)
        else:
            self.tell(Done(job=task.job, result=result))

    def _found(self, task: WorkerTask, token: CancelToken) -> dict[str, Any]:
        work, out = task.work, task.folder / OUT
        image = task.folder / work["image"]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            if not (out / image.stem / RECORD).exists():
                segment_into(
                    out,
                    self.model,
                    image,
                    as_subjects(work["subjects"], task.folder),
                    on_step=lambda step: self.tell(JobProgress.of(task.job, step)),
                    cancel=token,
                    **{name: work[name] for name in ("prompt", "seed", "levels", "draws", "overlay")},
                )
        told = [str(one.message).replace(f"{task.folder}/", "") for one in caught if one.category is UserWarning]
        told += [f"this model does not know the word {word!r}" for word, _ in self.model.unknown_words(work["prompt"])]
        return _result(task.folder, out / image.stem) | {"warnings": list(dict.fromkeys(told))}


def _result(job: Path, folder: Path) -> dict[str, Any]:
    """What the record in a folder says, with paths relative to the job's."""
    record, place = load_segmentation(folder / RECORD), folder.relative_to(job).as_posix()
    files = [
        {
            "name": one.subject.name,
            "present": one.present,
            "confidence": one.confidence,
            "share": one.share,
            "mask": f"{place}/{one.mask}",
            "layer": f"{place}/{one.layer}",
        }
        for one in record.subjects
    ]
    return {
        "width": record.width,
        "height": record.height,
        "subjects": files,
        "background": f"{place}/{record.background}",
        "overlay": None if record.overlay is None else f"{place}/{record.overlay}",
        "record": f"{place}/{RECORD}",
    }
