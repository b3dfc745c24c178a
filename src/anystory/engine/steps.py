"""The steps of a job as they are done: who listens hears of each, and a cancelled job ends between two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from anystory.engine.events import Pace, StepDone

if TYPE_CHECKING:
    from anystory.engine.backends.base import SamplingStep
    from anystory.engine.cancelling import CancelToken

__all__ = ["StepTeller"]


@dataclass
class StepTeller:
    """Tells a job's listener of its steps, and ends the job early."""

    pictures: int
    token: CancelToken
    on_step: Callable[[StepDone], None]
    previews: int = 0
    """Every so many steps, an event has a preview; 0 for none."""
    _pace: Pace = field(default_factory=Pace)

    def tell(self, picture: int, step: SamplingStep) -> None:
        """A step of a picture (from 1) is done.

        Raises:
            Cancelled: the token was set, and the picture has more steps: after its last one it is finished.
        """
        more = step.number < step.count
        if more:
            self.token.check()
        steps_left = (self.pictures - picture) * step.count + step.count - step.number
        preview = step.preview if self.previews and step.number % self.previews == 0 else None
        event = StepDone(
            picture=picture,
            pictures=self.pictures,
            step=step.number,
            steps=step.count,
            seconds_left=self._pace.seconds_left(steps_left),
            preview=None if preview is None else preview(),
        )
        self.on_step(event)
        if more:
            self.token.check()
