"""What a person sees while a stage trains."""

from __future__ import annotations

import sys
import time

from rich.progress import TextColumn

from anystory.progress import LoggedBar
from anystory.training.state.train_state import Progress


class TrainingProgress(LoggedBar):
    """A context that shows how far a stage is, its loss and its speed."""

    def __init__(self, name: str, enabled: bool = True) -> None:
        percent, status = TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.fields[status]}")
        super().__init__(name, 1.0, percent, last=[status], enabled=enabled, status="")
        self.name = name
        self.first_samples: int | None = None

    def update(self, fraction: float, progress: Progress, values: dict[str, float]) -> None:
        """Show the budget's spent `fraction` in [0, 1] and the newest losses."""
        if not self.enabled:
            return
        now = time.monotonic()
        if self.first_samples is None:
            self.first_samples, self.began = progress.samples, now
        speed = (progress.samples - self.first_samples) / max(1e-3, now - self.began)
        losses = " ".join(f"{k} {v:.4f}" for k, v in values.items() if k != "learning_rate")
        status = f"step {progress.step} · {speed:.0f}/s · {losses}"
        self.bar.update(self.task, completed=fraction, status=status)
        if self.line_is_due(anyway=progress.step == 1):
            print(f"[{self.name}] {100 * fraction:5.1f} % {status}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Say something once, below the bar or as a line of the log."""
        if self.enabled:
            self.bar.console.print(f"[{self.name}] {text}", markup=False, highlight=False)
