"""Drawing samples ahead with all cores, for a device that trains faster than samples are drawn.

Row r of the memory is stream position `first + r`. What varies within a sample, such as how its references are
augmented, is drawn once and stays.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.progress import MofNCompleteColumn

from anystory.process_pool import available_cores
from anystory.progress import LoggedBar
from anystory.training.data.memory import SampleMemory
from anystory.training.data.prerender_settings import Prerender
from anystory.training.data.stream import Sample, stream_batches, told_worker_deaths
from anystory.training.launch.stopping import StopRequest, interruption

CHUNK = 8
"""Samples that a process draws at a time."""


class DrawingProgress(LoggedBar):
    """A context that shows how many of `count` samples are drawn: a bar on a terminal, a line now and then in a log.

    `doing` says what is done to them, where it is something else.
    """

    def __init__(self, name: str, count: int, enabled: bool = True, doing: str = "drawing") -> None:
        super().__init__(f"{name} {doing}", count, MofNCompleteColumn(), enabled=enabled)
        self.name, self.count, self.doing = name, count, doing
        self.drawn = 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if self.enabled and not self.terminal:
            print(f"[{self.name}] {self._line()}", file=sys.stderr, flush=True)

    def update(self, drawn: int) -> None:
        """Show that `drawn` samples are there."""
        self.drawn = drawn
        self.bar.update(self.task, completed=drawn)
        if self.line_is_due():
            left = self.seconds_left(max(1, drawn) / self.count)
            print(f"[{self.name}] {self._line()}, about {left:.0f} s left", file=sys.stderr, flush=True)

    def _line(self) -> str:
        seconds = time.monotonic() - self.began
        return f"{self.doing}: {self.drawn} of {self.count} samples in {seconds:.0f} s, {self.drawn / seconds:.0f}/s"


def draw_ahead(fetch: Callable[[int], Sample], settings: Prerender, name: str, quiet: bool = False) -> SampleMemory:
    """Draw samples `settings.first` … into memory, with a bar that says how long it takes.

    When the time is over before all are drawn, the memory holds the first ones without a gap.

    Raises:
        ValueError: the memory does not suffice, or `fetch` refuses.
        DrawingFailed: a process that draws samples died.
        KeyboardInterrupt: Ctrl-C or SIGTERM; what was drawn is gone, which costs time and nothing else.
    """
    memory = SampleMemory(fetch(settings.first), settings.count)
    workers = available_cores() if settings.workers is None else settings.workers
    end = time.monotonic() + 60 * settings.minutes if settings.minutes else float("inf")
    drawn = 0
    with (
        told_worker_deaths(),
        StopRequest() as stop,
        DrawingProgress(name, settings.count, enabled=not quiet) as bar,
    ):
        for batch in stream_batches(fetch, start=settings.first, batch_size=CHUNK, workers=workers):
            if stop.signal:
                raise interruption(stop.signal)
            drawn = memory.write(drawn, batch)
            bar.update(drawn)
            if drawn == settings.count or time.monotonic() > end:
                break
    memory.shorten(drawn)
    return memory
