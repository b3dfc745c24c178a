"""Folders of shards as one list of samples, any of which is one read away."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

from typing_extensions import Self

from anystory.data.bad import BadSample
from anystory.data.reading import LoadedSample, OpenMember, ReadLimits, read_sample
from anystory.data.records import SampleRecord
from anystory.data.shard_index import ShardEntry, load_index
from anystory.data.table import SampleTable
from anystory.data.tar_layout import TarSample, parse_block, read_block, record_of

__all__ = ["ShardSet"]


class ShardSet:
    """Samples of one or more folders of shards, by index. Picklable; keeps no file open.

    Args:
        shards: Each tar file with its entry of the index, in order.
    """

    def __init__(self, shards: Sequence[tuple[Path, ShardEntry]]) -> None:
        self.shards = tuple(shards)
        self._firsts: list[int] = []
        count = 0
        for _, entry in self.shards:
            self._firsts.append(count)
            count += entry.samples
        self._count = count
        self.table = SampleTable.joined(entry.table for _, entry in self.shards)

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
        return self._count

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
        if not 0 <= index < self._count:
            raise IndexError(f"sample {index} of {self._count}")
        number = bisect_right(self._firsts, index) - 1
        path, entry = self.shards[number]
        row = index - self._firsts[number]
        sample = TarSample(entry.keys[row], entry.offsets[row], entry.sizes[row])
        with path.open("rb", buffering=0) as file:
            block = read_block(file, sample)
        if len(block) < sample.size:
            raise BadSample("missing_file", f"{path} ends before the sample does: it changed while it was open")
        return record_of(sample.key, parse_block(block))

    def record(self, index: int) -> SampleRecord:
        """A sample's record, with its members' names."""
        return self.open_sample(index)[0]

    def read(self, index: int, limits: ReadLimits | None = None) -> LoadedSample:
        """A sample, decoded and checked; see `read_sample`.

        Raises:
            BadSample: anything that makes it unfit.
        """
        record, open_member = self.open_sample(index)
        return read_sample(record, open_member, limits=limits)
