"""Reading a set's samples by several processes, in order: what comes out does not depend on how many there are."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Generic, TypeVar

from anystory.data.bad import BadSample
from anystory.data.processes import ProcessDied, in_order

__all__ = ["read_ahead"]

T = TypeVar("T")


def read_ahead(
    read: Callable[[int], T], indices: Sequence[int], keys: Sequence[str], workers: int, *, parcel: int = 16
) -> Generator[T | BadSample, None, None]:
    """What `read` gives for each sample, in the order of the indices; a bad sample is given, not raised.

    Args:
        read: Reads a sample by its index in the source; picklable.
        indices: Which samples.
        keys: Of all samples of the source, for messages.
        workers: Reading processes; 0 reads in this one.
        parcel: Samples that a process reads at once.

    Raises:
        ValueError: a process ended, or less than no process.
        Exception: what `read` raises besides BadSample, when it is that sample's turn.
    """
    if workers < 0:
        raise ValueError(f"`workers` must be at least 0, got {workers}")
    try:
        workers = min(workers, -(-len(indices) // parcel))
        yield from in_order(partial(_Reader, read), indices, workers, parcel=parcel)
    except ProcessDied as died:
        first, last = died.questions[0], died.questions[-1]
        raise ValueError(
            f"a reading process ended (exit code {died.code}) while it had the samples {keys[first]} to {keys[last]}. "
            "If the memory was full, fewer --workers need less"
        ) from None


class _Reader(Generic[T]):
    def __init__(self, read: Callable[[int], T]) -> None:
        self._read = read

    def __call__(self, index: int) -> T | BadSample:
        try:
            return self._read(index)
        except BadSample as error:
            return error
