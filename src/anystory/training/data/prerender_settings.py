"""How much is drawn ahead of a training. Nothing heavy is imported: the command line reads it first."""

from __future__ import annotations

from dataclasses import dataclass


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
    """Drawing processes; None is one per core, 0 draws in this one."""
    minutes: float | None = None
    """Stop drawing after this time and train on what is there: one chunk at least."""

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("first", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"prerender {name} must be at least {least}, got {getattr(self, name)}")
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"prerender workers must be at least 0, got {self.workers}")
        if self.minutes is not None and not self.minutes > 0:
            raise ValueError(f"prerender minutes must be positive, got {self.minutes}")
