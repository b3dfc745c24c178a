"""What a source is, and what it knows of each sample without reading it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from anystory.data.reading import OpenMember
from anystory.data.records import SampleRecord

__all__ = ["SampleRow", "SampleSource", "SampleTable"]


class SampleRow(NamedTuple):
    """What is known of one sample."""

    key: str
    subjects: int = 0
    """How many there are; 0 where the record cannot be read."""
    heldout: bool = False
    masked: bool = False
    """Every subject has its instance mask."""

    @classmethod
    def of(cls, record: SampleRecord) -> SampleRow:
        """The row of a record."""
        masked = all(subject.mask is not None for subject in record.subjects)
        return cls(record.key, len(record.subjects), record.split == "heldout", masked)


@dataclass(frozen=True, eq=False)
class SampleTable:
    """One row per sample, by columns; see `SampleRow`."""

    keys: tuple[str, ...]
    subjects: np.ndarray
    """int."""
    heldout: np.ndarray
    """bool."""
    masked: np.ndarray
    """bool."""

    @classmethod
    def of(cls, rows: Iterable[SampleRow]) -> SampleTable:
        """The table of rows in their order."""
        rows = list(rows)
        return cls(
            tuple(row.key for row in rows),
            np.array([row.subjects for row in rows], np.int64),
            np.array([row.heldout for row in rows], bool),
            np.array([row.masked for row in rows], bool),
        )


class SampleSource(Protocol):
    """A manifest or a set of shards: samples by index."""

    table: SampleTable

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
