"""Cases that take turns, and what each of them took."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from anystory.evaluation.bench.meters import in_turns, over_first


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One case."""

    name: str
    subjects: int
    seconds: float
    """Of the fastest call."""
    median: float
    ratio: float
    """Of `seconds` to the first case's of the table."""
    memory: int | None
    """Peak bytes; None where the system does not say."""
    memory_ratio: float | None


@dataclass(frozen=True, kw_only=True)
class TimedCase:
    """What is timed."""

    name: str
    subjects: int
    call: Callable[[], Any]
    inside: Callable[[], Any] | None = None
    """Opens what must be open around the call."""

    def run(self) -> None:
        with ExitStack() as stack:
            if self.inside is not None:
                stack.enter_context(self.inside())
            self.call()


def timed(cases: list[TimedCase], memory: list[int | None], rounds: int, turn: float) -> list[Timing]:
    """Times of all cases against the first one's; `memory` has the peak of each, if it is known."""
    found = in_turns([case.run for case in cases], rounds, turn)
    return [
        Timing(
            name=case.name,
            subjects=case.subjects,
            seconds=min(own.times),
            median=own.median,
            ratio=min(own.times) / min(found[0].times),
            memory=memory[i],
            memory_ratio=over_first(memory, i),
        )
        for i, (case, own) in enumerate(zip(cases, found, strict=True))
    ]
