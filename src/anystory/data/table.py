"""What a source knows of each sample without reading it, and what a source is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from anystory.data.reading import OpenMember
from anystory.data.records import SampleRecord

__all__ = ["SampleSource", "SampleTable"]


@dataclass(frozen=True, eq=False)
class SampleTable:
    """One row per sample."""

    keys: tuple[str, ...]
    subjects: np.ndarray
    """int: how many there are; 0 where the record cannot be read."""
    heldout: np.ndarray
    """bool."""
    masked: np.ndarray
    """bool: every subject has its instance mask."""

    @classmethod
    def of(cls, records: Sequence[SampleRecord]) -> SampleTable:
        """The table of records in their order."""
        return cls(
            tuple(record.key for record in records),
            np.array([len(record.subjects) for record in records], dtype=np.int64),
            np.array([record.split == "heldout" for record in records], dtype=bool),
            np.array([all(s.mask is not None for s in record.subjects) for record in records], dtype=bool),
        )

    @classmethod
    def joined(cls, tables: Iterable[SampleTable]) -> SampleTable:
        """The rows of several tables, one after another."""
        tables = [cls.of(()), *tables]
        return cls(
            tuple(key for table in tables for key in table.keys),
            np.concatenate([table.subjects for table in tables]),
            np.concatenate([table.heldout for table in tables]),
            np.concatenate([table.masked for table in tables]),
        )


class SampleSource(Protocol):
    """A manifest or a set of shards: samples by index."""

    table: SampleTable
    """What is known of each sample without reading it."""

    @property
    def groups(self) -> tuple[range, ...]:
        """Indices that are stored together, such as a shard's; together they are 0 … len − 1."""
        ...

    def __len__(self) -> int: ...

    def open_sample(self, index: int) -> tuple[SampleRecord, OpenMember]:
        """A sample's record and a reader of its files.

        Raises:
            BadSample: the record cannot be read.
        """
        ...
