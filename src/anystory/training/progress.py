"""What a person sees while a stage trains: a bar with a time estimate on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .checkpoint import Progress as Position

LINE_SECONDS = 30.0


class TrainingProgress:
    """A context that shows how far a stage is, its loss and its speed."""

    def __init__(self, name: str, enabled: bool = True) -> None:
        self.name, self.enabled = name, enabled
        self.terminal = enabled and sys.stderr.isatty()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            console=Console(stderr=True),
            disable=not self.terminal,
        )
        self.task = self.bar.add_task(name, total=1.0, status="")
        self.began = self.last_line = time.monotonic()
        self.first_samples: int | None = None

    def __enter__(self) -> TrainingProgress:
        self.bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.__exit__(kind, error, trace)

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
        if not self.terminal and (now - self.last_line > LINE_SECONDS or position.step == 1):
            self.last_line = now
            print(f"[{self.name}] {100 * fraction:5.1f} % {status}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Say something once, below the bar or as a line of the log."""
        if self.enabled:
            self.bar.console.print(f"[{self.name}] {text}", markup=False, highlight=False)
