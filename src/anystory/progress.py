"""What a person sees while something takes long: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from typing_extensions import Self

__all__ = ["LINE_SECONDS", "LoggedBar"]

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
