"""What the drawing process tells the page: small values that can be pickled and shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from anystory.story.positions import Problem

__all__ = [
    "Failure",
    "Finished",
    "Loading",
    "PanelKept",
    "PictureKept",
    "SamplingProgress",
    "Searching",
    "SubjectsFound",
    "WorkerEvent",
]


@dataclass(frozen=True, kw_only=True)
class Loading:
    """A model is being loaded."""

    model: str


@dataclass(frozen=True, kw_only=True)
class SamplingProgress:
    """A sampling step is done, or a look at a picture (`Searching`)."""

    picture: int
    """From 1."""
    pictures: int
    step: int
    """From 1."""
    steps: int
    seconds_left: float | None
    preview: bytes | None = None
    """A small PNG of the picture so far."""


@dataclass(frozen=True, kw_only=True)
class PictureKept:
    """A picture is on disk, with its record and its maps."""

    picture: Path
    record: Path
    sheet: Path | None
    seed: int
    sha256: str
    """Of the picture without its record."""


@dataclass(frozen=True, kw_only=True)
class Searching:
    """Subjects are looked for in a picture from here on: the steps that follow are looks at it."""


@dataclass(frozen=True, kw_only=True)
class SubjectsFound:
    """The masks of a picture are on disk, with their record."""

    folder: Path


@dataclass(frozen=True, kw_only=True)
class PanelKept:
    """A panel of a story is on disk."""

    number: int
    """From 1."""
    done: int
    count: int


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The task is done."""

    words: tuple[str, ...] = ()
    """Those that the model does not know."""
    problems: tuple[Problem, ...] = ()
    """What may be meant otherwise in a story."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The task has ended without its result."""

    message: str
    """A sentence; "" if it was cancelled, or if the process died."""
    kind: str = "error"
    """"error", "cancelled" or "crash"."""
    option: str | None = None
    """The engine's option that it is about."""
    problems: tuple[Problem, ...] = ()
    """All that is wrong with a story."""


WorkerEvent: TypeAlias = (
    Loading | SamplingProgress | PictureKept | PanelKept | Searching | SubjectsFound | Finished | Failure
)
