"""What a job tells while it is drawn: small values that a face shows, sends on or ignores. No torch is imported."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from PIL import Image

    from anystory.engine.saving import Kept

__all__ = ["Event", "Pace", "PictureDone", "StepDone"]


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """A sampling step is done."""

    picture: int
    """Which picture of the job it belongs to, from 1."""
    pictures: int
    """Pictures of the job."""
    step: int
    """Which step of the picture, from 1."""
    steps: int
    """Steps of each picture."""
    seconds_left: float | None = None
    """Estimate for all steps that are left in the job; None before there is anything to go by."""
    preview: Image.Image | None = None
    """The picture so far, small; None where the job has no previews, or none at this step."""

    @property
    def done(self) -> float:
        """The share of the job's steps that is done, above 0 and up to 1."""
        return ((self.picture - 1) * self.steps + self.step) / (self.pictures * self.steps)


@dataclass(frozen=True, kw_only=True)
class PictureDone:
    """A picture is drawn and, with its record, on disk."""

    picture: int
    """Which picture of the job, from 1."""
    pictures: int
    """Pictures of the job."""
    kept: Kept
    """The picture, its record and where both lie."""


Event: TypeAlias = StepDone | PictureDone
"""In the order in which they come: the steps of a picture, then the picture, then the next."""


class Pace:
    """How long the rest of a job takes, by the steps that are done.

    Args:
        clock: Gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: float | None = None
        self._steps = 0

    def seconds_left(self, steps_left: int) -> float | None:
        """Count a step that is done, and estimate the rest.

        The mean of all steps after the first, which may also compile kernels or fetch weights.

        Args:
            steps_left: Steps of the job that are not done.

        Returns:
            Seconds, or None after the first step, unless it was the last.
        """
        now = self._clock()
        if self._first is None:
            self._first = now
            return None if steps_left else 0.0
        self._steps += 1
        return (now - self._first) / self._steps * steps_left
