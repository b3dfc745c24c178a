"""What server and workers tell each other: small values that can be pickled. Nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from typing_extensions import Self

from anystory.engine.events import StepDone
from anystory.engine.options import ModelOptions

__all__ = ["Done", "Failed", "JobProgress", "Message", "PictureStored", "Ready", "Stopped", "WorkerSetup", "WorkerTask"]


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """What a worker needs to begin."""

    model: ModelOptions
    batch: int
    """Pictures that it draws together at most."""
    metadata: bool
    """Whether pictures hold their records."""
    safety_checker: str | None
    watermark: bool
    locks: Path
    """Folder of the workers' locks."""
    name: str
    """Of its lock: one worker with this name runs at a time."""


@dataclass(frozen=True, kw_only=True)
class WorkerTask:
    """A job for a worker."""

    job: str
    kind: str
    work: dict[str, Any]
    folder: Path
    """The job's own."""


@dataclass(frozen=True, kw_only=True)
class Ready:
    """The worker has loaded its model."""

    size_multiple: int
    native_size: int
    max_subjects: int | None
    """See `engine.backends.base.Limits`."""
    batch: int
    """Pictures that it draws together at most."""


@dataclass(frozen=True, kw_only=True)
class JobProgress:
    """A sampling step of a job is done; of a segmentation, a look at the picture."""

    job: str
    picture: int
    """From 1."""
    pictures: int
    step: int
    """From 1."""
    steps: int
    done: float
    """The share of the job, up to 1."""
    seconds_left: float | None
    preview: bytes | None = None
    """A small PNG."""

    @classmethod
    def of(cls, job: str, step: StepDone) -> Self:
        """What the engine tells of a job that is drawn alone, without a preview."""
        names = ("picture", "pictures", "step", "steps", "done", "seconds_left")
        return cls(job=job, **{name: getattr(step, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class PictureStored:
    """A picture of a job is on disk."""

    job: str
    picture: int
    """From 1; of a story, the number of the panel."""
    pictures: int
    together: int = 1
    """Pictures that were drawn in the same call."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A job is done."""

    job: str
    result: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A job cannot be done."""

    job: str
    kind: str
    """See `JobStore.fail`."""
    message: str


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """A job has ended early: it was cancelled, or it is to be continued later."""

    job: str
    paused: bool


Message: TypeAlias = JobProgress | PictureStored | Done | Failed | Stopped
