"""Drawing samples ahead with all cores, for a device that trains faster than samples can be drawn.

Row r of the memory is stream position `first + r`. What varies within a sample, such as how its references are
augmented, is drawn once and stays.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any

from rich.progress import MofNCompleteColumn

from .memory import SampleMemory
from .progress import LoggedBar
from .stopping import StopRequest, interruption
from .stream import Sample, quiet_worker

CHUNK = 32
"""Rows that a process draws between two looks at the clock."""


@dataclass(frozen=True)
class Prerender:
    """How much is drawn ahead.

    Raises:
        ValueError: a number is out of its range.
    """

    count: int
    """Samples to draw."""
    first: int = 0
    """Stream position of the first: a later run on the same weights sees new samples with another one."""
    workers: int | None = None
    """Drawing processes; None is one per core, 0 draws in line."""
    minutes: float | None = None
    """Stop drawing after so long and train on what is there; at least one chunk per process is drawn."""

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("first", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"prerender {name} must be at least {least}, got {getattr(self, name)}")
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"prerender workers must be at least 0, got {self.workers}")
        if self.minutes is not None and not self.minutes > 0:
            raise ValueError(f"prerender minutes must be positive, got {self.minutes}")


class DrawingProgress(LoggedBar):
    """A context that shows how many of `count` samples are drawn: a bar on a terminal, a line now and then in a log."""

    def __init__(self, name: str, count: int, enabled: bool = True) -> None:
        super().__init__(f"{name} drawing", count, MofNCompleteColumn(), enabled=enabled)
        self.name, self.count = name, count
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
            left = (self.count - drawn) * (time.monotonic() - self.began) / max(1, drawn)
            print(f"[{self.name}] {self._line()}, about {left:.0f} s left", file=sys.stderr, flush=True)

    def _line(self) -> str:
        seconds = time.monotonic() - self.began
        return f"drew {self.drawn} of {self.count} samples in {seconds:.0f} s, {self.drawn / seconds:.0f}/s"


def draw_ahead(fetch: Callable[[int], Sample], settings: Prerender, name: str, quiet: bool = False) -> SampleMemory:
    """Draw samples `settings.first` … into memory, with a bar that says how long it takes.

    When the time is over before all are drawn, the memory holds an unbroken run of the first ones.

    Raises:
        ValueError: the memory does not suffice, processes cannot be forked here, or `fetch` refuses.
        RuntimeError: a drawing process died.
        KeyboardInterrupt: Ctrl-C or SIGTERM; what was drawn is gone, which costs time and nothing else.
    """
    memory = SampleMemory(fetch(settings.first), settings.count)
    workers = _cores() if settings.workers is None else settings.workers
    draw = _draw_in_line if workers == 0 else _draw_in_processes
    end = time.monotonic() + 60 * settings.minutes if settings.minutes else float("inf")
    drawn = 0
    with StopRequest() as stop, DrawingProgress(name, settings.count, enabled=not quiet) as bar:
        for drawn in draw(fetch, settings.first, memory, workers, lambda: time.monotonic() > end):
            if stop.signal:
                raise interruption(stop.signal)
            bar.update(drawn)
    memory.shorten(drawn)
    return memory


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _chunk(fetch: Callable[[int], Sample], first: int, begin: int, count: int) -> list[Sample]:
    return [fetch(first + row) for row in range(begin, min(begin + CHUNK, count))]


def _draw_in_line(
    fetch: Callable[[int], Sample], first: int, memory: SampleMemory, workers: int, late: Callable[[], bool]
) -> Iterator[int]:
    """Fill the memory in this process; yields how many rows are drawn."""
    for begin in range(0, memory.count, CHUNK):
        samples = _chunk(fetch, first, begin, memory.count)
        memory.write_lists(begin, memory.write(begin, samples))
        yield begin + len(samples)
        if late():
            return


def _draw_in_processes(
    fetch: Callable[[int], Sample], first: int, memory: SampleMemory, workers: int, late: Callable[[], bool]
) -> Iterator[int]:
    """Fill the memory with `workers` forked processes; yields how many rows are drawn, at least twice a second."""
    if "fork" not in multiprocessing.get_all_start_methods():
        raise ValueError("this system cannot fork processes, which --prerender shares memory with: leave it out")
    context = multiprocessing.get_context("fork")
    # Rows are handed out in order and every chunk that was handed out is finished: what is drawn has no holes.
    handed, enough = context.Value("q", 0), context.Value("b", 0)
    processes, receivers = [], []
    for _ in range(workers):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(fetch, first, memory, handed, enough, sender), daemon=True)
        process.start()
        sender.close()  # the process's own copy is the last: its end is the end of the pipe
        processes.append(process)
        receivers.append(receiver)
    drawn = 0
    try:
        while receivers:
            for ready in wait(receivers, timeout=0.5):
                assert isinstance(ready, Connection)
                try:
                    message = ready.recv()
                except EOFError:
                    raise RuntimeError("a drawing process died: is the memory full?") from None
                if isinstance(message, Exception):
                    raise message
                if message is None:  # it has finished
                    receivers.remove(ready)
                    continue
                begin, length, values = message
                memory.write_lists(begin, values)
                drawn += length
            yield drawn
            if late():
                enough.value = 1
    finally:
        for process in processes:
            process.kill()  # they ignore the gentler signals; those that have finished are gone already
            process.join()


def _work(
    fetch: Callable[[int], Sample], first: int, memory: SampleMemory, handed: Any, enough: Any, sender: Connection
) -> None:
    """What a drawing process does: take the next chunk, draw it, say so."""
    quiet_worker(0)
    try:
        while True:
            with handed.get_lock():
                begin = handed.value
                handed.value += CHUNK
            if begin >= memory.count:
                break
            samples = _chunk(fetch, first, begin, memory.count)
            sender.send((begin, len(samples), memory.write(begin, samples)))
            if enough.value:
                break
        sender.send(None)
    except Exception as error:
        sender.send(error)
