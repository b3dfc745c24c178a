"""What a person sees while something takes long: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from typing_extensions import Self

__all__ = ["LINE_SECONDS", "CountingBar", "LoggedBar"]

LINE_SECONDS = 30.0


class LoggedBar:
    """A context with a bar on a terminal; elsewhere subclasses print a line now and then.

    Args:
        name: what is going on.
        total: the task's size.
        *middle: columns after the bar, before the times; `last` come after them.
        enabled: False shows nothing at all.
        **fields: of the task, for its columns.
    """

    def __init__(
        self,
        name: str,
        total: float,
        *middle: ProgressColumn,
        last: Sequence[ProgressColumn] = (),
        enabled: bool = True,
        **fields: Any,
    ) -> None:
        self.enabled = enabled
        self.terminal = enabled and sys.stderr.isatty()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            *middle,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            *last,
            console=Console(stderr=True),
            disable=not self.terminal,
        )
        self.task = self.bar.add_task(name, total=total, **fields)
        self.began = self.last_line = time.monotonic()

    def __enter__(self) -> Self:
        self.bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.__exit__(kind, error, trace)

    def line_is_due(self, anyway: bool = False) -> bool:
        """Whether a log, where there is no terminal, should get its next line now, or gets one `anyway`."""
        now = time.monotonic()
        if not self.enabled or self.terminal or not (anyway or now - self.last_line > LINE_SECONDS):
            return False
        self.last_line = now
        return True

    def seconds_left(self, share: float) -> float:
        """How long the rest takes at the pace so far, when `share` in (0, 1] of it is done."""
        return (1 / share - 1) * (time.monotonic() - self.began)


class CountingBar(LoggedBar):
    """A context that counts things to a known end: a bar on a terminal, in a log a line at once and now and then.

    Args:
        name: what is going on.
        total: how many there are.
    """

    def __init__(self, name: str, total: int) -> None:
        super().__init__(name, total, MofNCompleteColumn())
        self.name, self.total, self.done = name, total, 0

    def __enter__(self) -> Self:
        super().__enter__()
        if self.line_is_due(anyway=True):
            print(f"[{self.name}] 0 of {self.total}", file=sys.stderr, flush=True)
        return self

    def update(self, done: int, doing: str = "") -> None:
        """Show that `done` of them are done, and what is being done with the next one, where that changes."""
        self.done = done
        self.bar.update(self.task, completed=done, description=doing or self.name)
        if self.line_is_due():
            what = f"{doing}: " if doing else ""
            left = f", about {self.seconds_left(done / self.total):.0f} s left" if done else ""
            print(f"[{self.name}] {what}{done} of {self.total}{left}", file=sys.stderr, flush=True)
