"""What a person sees while a stage trains: a bar with a time estimate on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from typing_extensions import Self

from .checkpoint import Progress as Position

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


class TrainingProgress(LoggedBar):
    """A context that shows how far a stage is, its loss and its speed."""

    def __init__(self, name: str, enabled: bool = True) -> None:
        percent, status = TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.fields[status]}")
        super().__init__(name, 1.0, percent, last=[status], enabled=enabled, status="")
        self.name = name
        self.first_samples: int | None = None

    def update(self, fraction: float, position: Position, values: dict[str, float]) -> None:
        """Show the budget's spent `fraction` in [0, 1] and the newest losses."""
        if not self.enabled:
            return
        now = time.monotonic()
        if self.first_samples is None:
            self.first_samples, self.began = position.samples, now
        speed = (position.samples - self.first_samples) / max(1e-3, now - self.began)
        losses = " ".join(f"{k} {v:.4f}" for k, v in values.items() if k != "learning_rate")
        status = f"step {position.step} · {speed:.0f}/s · {losses}"
        self.bar.update(self.task, completed=fraction, status=status)
        if self.line_is_due(anyway=position.step == 1):
            print(f"[{self.name}] {100 * fraction:5.1f} % {status}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Say something once, below the bar or as a line of the log."""
        if self.enabled:
            self.bar.console.print(f"[{self.name}] {text}", markup=False, highlight=False)
