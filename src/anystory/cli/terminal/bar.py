"""A bar that counts things to a known end, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import MofNCompleteColumn

from anystory.progress import LoggedBar

__all__ = ["counting_bar"]


@contextmanager
def counting_bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes how many of `total` are done: a bar on a terminal, a line now and then in a log."""
    with LoggedBar(name, total, MofNCompleteColumn()) as bar:
        if bar.line_is_due(anyway=True):
            print(f"[{name}] 0 of {total}", file=sys.stderr, flush=True)

        def update(done: int) -> None:
            bar.bar.update(bar.task, completed=done)
            if bar.line_is_due():
                print(f"[{name}] {done} of {total}", file=sys.stderr, flush=True)

        yield update
