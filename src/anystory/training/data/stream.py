"""The endless sample stream: sample i is a pure function of (seed, i), so a run resumes exactly where it stopped."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from anystory.training.failures import DrawingFailed

Sample = dict[str, Any]

DEATH_SECONDS = 0.5
"""How long the system may take to report a worker that has closed its end."""


class StreamDataset(Dataset[Sample | ValueError]):
    """Map-style view of `fetch(index) -> sample`, for any non-negative index. What `fetch` refuses is an item, too."""

    def __init__(self, fetch: Callable[[int], Sample]) -> None:
        self.fetch = fetch

    def __getitem__(self, index: int) -> Sample | ValueError:
        try:
            return self.fetch(index)
        except ValueError as error:  # raised in a worker, it would carry the worker's traceback in its message
            return ValueError(str(error))


class StreamSampler(Sampler[int]):
    """Indices from `start` on without end: process `rank` of `world_size` takes its share of every global batch."""

    def __init__(self, start: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.start, self.batch_size, self.rank, self.world_size = start, batch_size, rank, world_size

    def __iter__(self) -> Iterator[int]:
        first = self.start + self.rank * self.batch_size
        while True:
            yield from range(first, first + self.batch_size)
            first += self.batch_size * self.world_size


def collate(samples: list[Sample]) -> Sample:
    """Stack arrays into tensors; lists of anything else stay lists. Sample keys must agree."""
    batch: Sample = {}
    for key, value in samples[0].items():
        column = [sample[key] for sample in samples]
        batch[key] = torch.stack([torch.as_tensor(v) for v in column]) if hasattr(value, "shape") else column
    return batch


def _collate_or_refuse(samples: list[Sample | ValueError]) -> Sample | ValueError:
    refused = [sample for sample in samples if isinstance(sample, ValueError)]
    return refused[0] if refused else collate(samples)  # pyright: ignore[reportArgumentType]


def _quiet_worker(_: int) -> None:
    """What every worker does first; the argument is its number."""
    torch.set_num_threads(1)
    # Ctrl-C, and often SIGTERM, reach every process of the group: the parent decides, and needs its workers until then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(2)  # the step waits for no one: drawing fills the gaps


@contextmanager
def told_worker_deaths() -> Iterator[None]:
    """Report a worker that dies in a sentence, whatever this process is doing: torch's signal handler raises anywhere.

    Raises:
        DrawingFailed: in place of torch's RuntimeError.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        error.__traceback__ = error.__context__ = None  # their frames would keep the other workers alive
        raise DrawingFailed(
            f"a process that draws samples died: if the memory was full, use fewer --workers ({error})"
        ) from error


def _next_batch(loader: Iterator[Any]) -> Any:
    """The next item of a loader. A dead worker that shows as a closed socket raises the error that torch raises."""
    try:
        return next(loader)
    except (EOFError, OSError) as error:
        if str(error).startswith("Caught "):  # by a worker, in `fetch`
            raise
        time.sleep(DEATH_SECONDS)  # the system's signal is under way, and torch's handler knows what it was
        raise RuntimeError(f"DataLoader worker closed its end: {error!r}") from None


def stream_batches(
    fetch: Callable[[int], Sample], *, start: int, batch_size: int, workers: int, rank: int = 0, world_size: int = 1
) -> Iterator[Sample]:
    """Batches of `fetch`'s samples from global position `start` on, without end. Closing the iterator ends the workers.

    Args:
        fetch: picklable.
        start: positions done, of all processes together.
        batch_size: samples.
        workers: processes that draw ahead; 0 draws in this one.
        rank, world_size: this process, and how many share the stream.

    Raises:
        ValueError: `fetch` refuses a sample.
        DrawingFailed: a worker died.
    """
    loader = iter(
        DataLoader(
            StreamDataset(fetch),
            batch_size=batch_size,
            sampler=StreamSampler(start, batch_size, rank, world_size),
            num_workers=workers,
            collate_fn=_collate_or_refuse,
            prefetch_factor=4 if workers else None,
            worker_init_fn=_quiet_worker if workers else None,
        )
    )
    try:
        with told_worker_deaths():
            while True:
                batch = _next_batch(loader) if workers else next(loader)
                if isinstance(batch, ValueError):
                    raise batch
                yield batch
    finally:
        del loader  # ends the workers now, also while a traceback holds this frame
