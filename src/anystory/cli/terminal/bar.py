"""A bar that counts things to a known end, on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from anystory.progress import CountingBar

__all__ = ["counting_bar"]


@contextmanager
def counting_bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes how many of `total` are done: a bar on a terminal, a line now and then in a log."""
    with CountingBar(name, total) as bar:
        yield bar.update
