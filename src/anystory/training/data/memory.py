"""Samples in memory, and the order in which training goes through them.

Each epoch sees every row once, in an order that is a function of (seed, epoch): a resumed run continues in it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anystory.training.data.stream import Sample

DEVICE_SHARE = 0.6
"""Part of a GPU's free memory that samples may take; the rest is for the model and one batch's activations."""


class SampleMemory:
    """Room for `count` samples shaped as `like`.

    Arrays become columns (count, …) of their own dtype; all else, such as captions, stays a list.

    Args:
        folder: where columns lie as mapped files, for several processes to fill or, after `keep`, to `open`. None: in
            this process's own memory.

    Raises:
        ValueError: there is too little memory.
    """

    def __init__(self, like: Sample, count: int, folder: Path | None = None) -> None:
        self.columns: dict[str, Tensor] = {}
        self.lists: dict[str, list[Any]] = {}
        for key, value in like.items():
            if not hasattr(value, "shape"):
                self.lists[key] = [None] * count
                continue
            try:
                rows = _rows((count, *value.shape), value.dtype, folder and folder / f"{key}.npy")
            except (MemoryError, ValueError) as error:
                size = count * value.nbytes / 2**30
                raise ValueError(f"no {size:.1f} GiB of memory for {count} samples: draw fewer ({error})") from error
            self.columns[key] = torch.from_numpy(rows)
        self.count = count

    def keep(self, folder: Path) -> None:
        """Note beside the columns in `folder` how many rows they have and what is no column: now it can be opened."""
        part = folder / f"{_REST}.part"
        part.write_bytes(pickle.dumps((self.count, self.lists)))
        part.rename(folder / _REST)

    @classmethod
    def open(cls, folder: Path) -> SampleMemory | None:
        """What another process has kept in `folder`; None as long as it has not."""
        if not (folder / _REST).is_file():
            return None
        memory = cls({}, 0)
        memory.count, memory.lists = pickle.loads((folder / _REST).read_bytes())
        for path in sorted(folder.glob("*.npy")):
            memory.columns[path.stem] = torch.from_numpy(np.load(path, mmap_mode="r+"))[: memory.count]
        return memory

    @property
    def nbytes(self) -> int:
        """Size of the columns."""
        return sum(column.nbytes for column in self.columns.values())

    def write(self, begin: int, batch: Sample) -> int:
        """Put a batch of `stream.collate` into the rows from `begin` on, up to the last one; returns the next row."""
        end = begin
        for key, values in batch.items():
            end = min(begin + len(values), self.count)
            (self.columns if key in self.columns else self.lists)[key][begin:end] = values[: end - begin]
        return end

    @torch.no_grad()
    def encode(self, column: str, encoder: Callable[[Tensor], dict[str, Tensor]], pictures: int = 64) -> Iterator[int]:
        """Replace a column of pictures by what `encoder` makes of its rows; yields how many rows are done.

        Args:
            column: (count, …, H, W, 3); goes, as soon as all of its rows are encoded.
            encoder: rows (B, …) to the rows (B, …) of the columns that come, by name, on the device where the rows are.
            pictures: about how many are encoded at a time; a row may hold several.
        """
        encoded: dict[str, Tensor] = {}
        batch = max(1, pictures // self.columns[column].shape[1:-3].numel())
        for begin in range(0, self.count, batch):
            end = min(begin + batch, self.count)
            for name, rows in encoder(self.columns[column][begin:end]).items():
                if name not in encoded:
                    encoded[name] = rows.new_empty(self.count, *rows.shape[1:])
                encoded[name][begin:end] = rows
            yield end
        del self.columns[column]
        self.columns |= encoded

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
            self.columns[key] = self.columns[key].to(device)  # one at a time: each frees its memory
        return True


_REST = "rest.pkl"


def _rows(shape: tuple[int, ...], dtype: np.dtype, path: Path | None) -> np.ndarray:
    if path is None:
        return np.empty(shape, dtype=dtype)
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


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
