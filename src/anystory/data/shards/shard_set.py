"""Folders of shards as one list of samples, read in any order."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from typing_extensions import Self

from anystory.data.pixels import ReadLimits
from anystory.data.reading import LoadedSample, OpenMember, read_sample
from anystory.data.records import SampleRecord
from anystory.data.shards.index import ShardEntry, load_index
from anystory.data.shards.tar_layout import TarSample, read_tar_sample
from anystory.data.table import SampleTable

__all__ = ["ShardSet"]


class ShardSet:
    """Samples of one or more folders of shards, by index. Picklable; keeps no file open.

    Args:
        shards: Each tar file with its entry of the index, in order.
    """

    def __init__(self, shards: Sequence[tuple[Path, ShardEntry]]) -> None:
        self.shards = tuple(shards)
        self._firsts = list(accumulate((entry.samples for _, entry in self.shards[:-1]), initial=0))
        self.table = SampleTable.of(row for _, entry in self.shards for row in entry.rows)

    @classmethod
    def open(cls, folders: str | Path | Sequence[str | Path]) -> Self:
        """Open one or several folders.

        Raises:
            ValueError: no folder, no index, a stale one, or no samples; see `load_index`.
        """
        listed = [folders] if isinstance(folders, (str, Path)) else list(folders)
        if not listed:
            raise ValueError("no folder of shards was given")
        found = cls([(Path(folder) / entry.name, entry) for folder in listed for entry in load_index(folder).shards])
        if not len(found):
            raise ValueError(f"{', '.join(map(str, listed))}: no samples")
        return found

    def __len__(self) -> int:
        return len(self.table.keys)

    @property
    def groups(self) -> tuple[range, ...]:
        """Each shard's indices."""
        return tuple(
            range(first, first + entry.samples)
            for first, (_, entry) in zip(self._firsts, self.shards, strict=True)
            if entry.samples
        )

    def open_sample(self, index: int) -> tuple[SampleRecord, OpenMember]:
        """A sample's record and a reader of its members, from one read of its tar file.

        Raises:
            IndexError: there is no such sample.
            BadSample: its record cannot be read.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        number = bisect_right(self._firsts, index) - 1
        path, entry = self.shards[number]
        row = index - self._firsts[number]
        sample = TarSample(entry.keys[row], entry.offsets[row], entry.sizes[row])
        with path.open("rb", buffering=0) as file:
            return read_tar_sample(file, sample)

    def record(self, index: int) -> SampleRecord:
        """A sample's record, with its members' names."""
        return self.open_sample(index)[0]

    def read(self, index: int, limits: ReadLimits | None = None) -> LoadedSample:
        """A sample, decoded and checked; see `read_sample`."""
        return read_sample(*self.open_sample(index), limits=limits)
