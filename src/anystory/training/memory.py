"""Samples in memory, and the order in which training goes through them.

Each epoch sees every row once, in an order that is a function of (seed, epoch): a resumed run goes on in the same one.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .stream import Sample

DEVICE_SHARE = 0.6
"""Part of a GPU's free memory that samples may take; the rest is for the model and one batch's activations."""


class SampleMemory:
    """Room for `count` samples shaped as `like`, shared with processes that are forked from this one.

    Arrays become columns (count, …) of their own dtype; all else, such as captions, stays a list.

    Raises:
        ValueError: there is not so much memory.
    """

    def __init__(self, like: Sample, count: int) -> None:
        self.columns: dict[str, Tensor] = {}
        self.lists: dict[str, list[Any]] = {}
        for key, value in like.items():
            if not hasattr(value, "shape"):
                self.lists[key] = [None] * count
                continue
            size = count * value.nbytes
            try:
                # Anonymous shared memory: unlike /dev/shm it has no limit of its own. Pages come when first written.
                shared = mmap.mmap(-1, size)
            except (OSError, OverflowError) as error:
                raise ValueError(
                    f"no {size / 2**30:.1f} GiB of memory for {count} samples: draw fewer ({error})"
                ) from error
            rows = np.frombuffer(shared, dtype=value.dtype).reshape(count, *value.shape)
            self.columns[key] = torch.from_numpy(rows)
        self.count = count

    @property
    def nbytes(self) -> int:
        """Size of the columns."""
        return sum(column.nbytes for column in self.columns.values())

    def write(self, begin: int, samples: list[Sample]) -> dict[str, list[Any]]:
        """Put samples into rows from `begin` on; returns what is not an array, for `write_lists` where it counts."""
        for key, column in self.columns.items():
            rows = column.numpy()
            for offset, sample in enumerate(samples):
                rows[begin + offset] = sample[key]
        return {key: [sample[key] for sample in samples] for key in self.lists}

    def write_lists(self, begin: int, values: dict[str, list[Any]]) -> None:
        """Put what `write` returned into the same rows."""
        for key, column in values.items():
            self.lists[key][begin : begin + len(column)] = column

    def shorten(self, count: int) -> None:
        """Keep the first `count` rows."""
        self.columns = {key: column[:count] for key, column in self.columns.items()}
        self.lists = {key: column[:count] for key, column in self.lists.items()}
        self.count = count

    def rows(self, index: Tensor) -> Sample:
        """The batch that `stream.collate` makes of these rows (B,), on the device where the columns are."""
        batch: Sample = {key: column[index.to(column.device)] for key, column in self.columns.items()}
        return batch | {key: [column[i] for i in index.tolist()] for key, column in self.lists.items()}

    def move_to(self, device: torch.device) -> bool:
        """Move all columns to a GPU if they take at most `DEVICE_SHARE` of what is free there; returns whether."""
        if device.type != "cuda" or not fits(self.nbytes, torch.cuda.mem_get_info(device)[0]):
            return False
        for key in list(self.columns):
            self.columns[key] = self.columns[key].to(device)  # one at a time: each frees its shared memory
        return True


def fits(nbytes: int, free: int) -> bool:
    """Whether samples of `nbytes` leave enough of a GPU's `free` bytes to train in."""
    return nbytes <= DEVICE_SHARE * free


def epoch_order(seed: int, epoch: int, count: int) -> Tensor:
    """The order (count,) in which an epoch goes through the rows: a function of its arguments alone."""
    mixed = (seed * 1_000_003 + epoch) * 1_009 + 7
    return torch.randperm(count, generator=torch.Generator().manual_seed(mixed % 2**63))


def memory_batches(memory: SampleMemory, *, start: int, batch_size: int, seed: int) -> Iterator[Sample]:
    """Batches without end, from the position that a run has reached after `start` samples.

    A batch at the end of an epoch is filled from the next one, so nothing is left out.
    """
    epoch, offset = divmod(start, memory.count)
    order = epoch_order(seed, epoch, memory.count)
    while True:
        index = order[offset : offset + batch_size]
        offset += batch_size
        while offset >= memory.count:
            epoch, offset = epoch + 1, offset - memory.count
            order = epoch_order(seed, epoch, memory.count)
            index = torch.cat([index, order[:offset]])
        yield memory.rows(index)
