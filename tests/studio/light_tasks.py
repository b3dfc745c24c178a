"""Tasks for the drawing process that draw nothing: what a process does with them is seen quickly."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anystory.engine.errors import OptionError
from anystory.studio.worker.events import Finished, SamplingProgress, Searching, WorkerEvent


@dataclass(frozen=True)
class Steps:
    """Tells of steps, each after a while, as long as nobody cancels."""

    count: int
    seconds: float = 0.0
    looking: bool = False
    """Whether they are looks at a picture."""

    def run(self, desk: Any) -> Finished:
        """Tell of all steps."""
        if self.looking:
            desk.send(Searching())
        for step in range(1, self.count + 1):
            desk.token.check()
            desk.send(
                SamplingProgress(picture=1, pictures=1, step=step, steps=self.count, seconds_left=None, preview=b"png")
            )
            time.sleep(self.seconds)
        return Finished(words=(str(os.getpid()),))


@dataclass(frozen=True)
class Held:
    """Does another task, and waits after a step of it until it is cancelled or let go.

    A test then finds it in the middle, on a fast machine and on a busy one.
    """

    task: Any
    let_go: Path
    """Appears when it is to go on."""
    after: int = 2

    def run(self, desk: Any) -> Finished:
        """Do it."""
        return self.task.run(_HoldingDesk(desk, self))


class _HoldingDesk:
    """A desk at which a step takes as long as a test wants."""

    def __init__(self, desk: Any, held: Held) -> None:
        self._desk, self._held = desk, held

    def __getattr__(self, name: str) -> Any:
        return getattr(self._desk, name)

    def send(self, event: WorkerEvent) -> None:
        """Tell it first: the test waits for it."""
        self._desk.send(event)
        if isinstance(event, SamplingProgress) and event.step == self._held.after:
            while not (self._desk.token.cancelled or self._held.let_go.exists()):
                time.sleep(0.02)


@dataclass(frozen=True)
class Raises:
    """Raises an error."""

    kind: str

    def run(self, desk: Any) -> Finished:
        """Raise it."""
        raise {
            "option": OptionError("steps", "must be 1 to 1000, got 0"),
            "memory": MemoryError("huge"),
            "bug": ZeroDivisionError("oh"),
        }[self.kind]


class Unreadable:
    """Cannot be read by the process."""

    def __reduce__(self) -> Any:
        return int, ("no number",)

    def run(self, desk: Any) -> Finished:
        """Never called."""
        raise AssertionError


@dataclass(frozen=True)
class Dies:
    """Ends its process."""

    def run(self, desk: Any) -> Finished:
        """As a crash in a library does, or the system when the memory is full."""
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


@dataclass(frozen=True)
class Touches:
    """Writes a file, so that it is seen whether it ran."""

    path: Path

    def run(self, desk: Any) -> Finished:
        """Write it."""
        self.path.write_text("ran")
        return Finished()
