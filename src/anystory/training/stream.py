"""The endless sample stream: sample i is a pure function of (seed, i), so a run resumes exactly where it stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

Sample = dict[str, Any]


class StreamDataset(Dataset[Sample]):
    """Map-style view of `fetch(index) -> sample`, for any non-negative index."""

    def __init__(self, fetch: Callable[[int], Sample]) -> None:
        self.fetch = fetch

    def __getitem__(self, index: int) -> Sample:
        return self.fetch(index)


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


def quiet_worker(_: int) -> None:
    """What every drawing process does first; the argument is its number."""
    torch.set_num_threads(1)
    # Ctrl-C, and often SIGTERM, reach every process of the group: the parent decides, and needs its workers until then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(2)  # the step waits for no one: drawing fills the gaps


def stream_batches(
    fetch: Callable[[int], Sample], *, start: int, batch_size: int, workers: int, rank: int = 0, world_size: int = 1
) -> Iterator[Sample]:
    """Batches of `fetch`'s samples from global position `start` on, drawn ahead by `workers` processes (0: in line)."""
    loader = DataLoader(
        StreamDataset(fetch),
        batch_size=batch_size,
        sampler=StreamSampler(start, batch_size, rank, world_size),
        num_workers=workers,
        collate_fn=collate,
        prefetch_factor=4 if workers else None,
        worker_init_fn=quiet_worker if workers else None,
    )
    return iter(loader)
