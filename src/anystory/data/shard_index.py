"""`index.json` of a folder of shards: which samples lie where, so that any of them is one read away."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from anystory.data.bad import BadSample
from anystory.data.records import why_invalid
from anystory.data.table import SampleTable
from anystory.data.tar_layout import TarSample, parse_block, read_block, record_of, tar_samples
from anystory.files import atomic_write, sha256_file

__all__ = ["INDEX_NAME", "ShardEntry", "ShardIndex", "index_shard", "load_index", "rebuild_index", "shard_paths"]

INDEX_NAME = "index.json"
_REMEDY = "`anystory data index FOLDER` makes it anew"


class ShardEntry(BaseModel):
    """One tar file. The lists have one value per sample, in the order in which the samples lie in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str
    bytes: int
    mtime_ns: int
    """When the file was last changed; a cheap sign that it is still the one that was hashed."""
    samples: int
    keys: tuple[str, ...]
    offsets: tuple[int, ...]
    """Where a sample's first header begins, in bytes."""
    sizes: tuple[int, ...]
    """Bytes from there to the end of its last member."""
    subjects: tuple[int, ...]
    """How many; 0 where the record cannot be read."""
    heldout: tuple[bool, ...]
    masked: tuple[bool, ...]

    @model_validator(mode="after")
    def _as_long_as_each_other(self) -> ShardEntry:
        for name in ("keys", "offsets", "sizes", "subjects", "heldout", "masked"):
            if len(getattr(self, name)) != self.samples:
                raise ValueError(f"{name} has {len(getattr(self, name))} values for {self.samples} samples")
        return self

    @model_validator(mode="after")
    def _inside(self) -> ShardEntry:
        if Path(self.name).name != self.name:
            raise ValueError(f"name: a shard lies beside its index, got {self.name!r}")
        for key, offset, size in zip(self.keys, self.offsets, self.sizes, strict=True):
            if offset < 0 or size < 0 or offset + size > self.bytes:
                raise ValueError(f"the sample {key!r} lies outside of {self.name}")
        return self

    @property
    def table(self) -> SampleTable:
        """What is known of the samples without reading them."""
        columns = (np.array(self.subjects, np.int64), np.array(self.heldout, bool), np.array(self.masked, bool))
        return SampleTable(self.keys, *columns)


class ShardIndex(BaseModel):
    """All tar files of a folder, by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    shards: tuple[ShardEntry, ...]


def shard_paths(folder: Path) -> list[Path]:
    """The finished tar files of a folder, by name; those being written have a name with a dot in front."""
    return sorted(path for path in folder.glob("*.tar") if not path.name.startswith("."))


def index_shard(path: Path) -> ShardEntry:
    """Read a tar file and say what lies where.

    Raises:
        ValueError: it is not whole, or the members of a sample do not lie together.
    """
    samples = list(tar_samples(path))
    subjects, heldout, masked = [], [], []
    with path.open("rb") as file:
        for sample in samples:
            try:
                record, _ = record_of(sample.key, parse_block(read_block(file, sample)))
            except BadSample:  # readers will say so, and count it
                subjects.append(0)
                heldout.append(False)
                masked.append(False)
                continue
            subjects.append(len(record.subjects))
            heldout.append(record.split == "heldout")
            masked.append(all(subject.mask is not None for subject in record.subjects))
    return entry_of(path, sha256_file(path), samples, subjects, heldout, masked)


def entry_of(
    path: Path,
    sha256: str,
    samples: list[TarSample],
    subjects: list[int],
    heldout: list[bool],
    masked: list[bool],
) -> ShardEntry:
    """An entry for a tar file that is complete at `path`."""
    stat = path.stat()
    return ShardEntry(
        name=path.name,
        sha256=sha256,
        bytes=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        samples=len(samples),
        keys=tuple(sample.key for sample in samples),
        offsets=tuple(sample.offset for sample in samples),
        sizes=tuple(sample.size for sample in samples),
        subjects=tuple(subjects),
        heldout=tuple(heldout),
        masked=tuple(masked),
    )


def rebuild_index(folder: str | Path, known: Iterable[ShardEntry] = ()) -> ShardIndex:
    """Write `index.json` for a folder's tar files, also for such as another program wrote in this layout.

    Files that the old index knows with their size and time of change are not read again.

    Args:
        folder: Where the tar files lie.
        known: Entries that the caller has just made.

    Raises:
        ValueError: no tar files, one that is not whole, or two samples with one key.
    """
    folder = Path(folder)
    paths = shard_paths(folder)
    if not paths:
        raise ValueError(f"{folder} holds no shards (tar files)")
    entries = {entry.name: entry for entry in (*_old_entries(folder), *known)}
    shards = []
    for path in paths:
        entry = entries.get(path.name)
        shards.append(entry if entry is not None and _same_stat(entry, path) else index_shard(path))
    _check_unique(folder, shards)
    index = ShardIndex(shards=tuple(shards))
    _write(index, folder)
    return index


def load_index(folder: str | Path) -> ShardIndex:
    """Read a folder's index and check that the tar files are still those that it was made from.

    A file whose time of change differs (a copy) is hashed; if it is the same file after all, the index is brought up to
    date, where the folder can be written to.

    Raises:
        ValueError: no index, a damaged one, or a stale one.
    """
    folder = Path(folder)
    path = folder / INDEX_NAME
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder of shards")
    if not path.is_file():
        raise ValueError(f"{folder} has no {INDEX_NAME}: {_REMEDY}")
    try:
        index = ShardIndex.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{path} is no index of shards ({why_invalid(error)[:300]}): {_REMEDY}") from None
    names = {entry.name for entry in index.shards}
    unknown = [found.name for found in shard_paths(folder) if found.name not in names]
    if unknown:
        raise ValueError(f"{path} is stale: it does not know {', '.join(unknown[:3])}. {_REMEDY}")
    checked = tuple(_checked(entry, folder, path) for entry in index.shards)
    if checked != index.shards:
        index = ShardIndex(shards=checked)
        try:
            _write(index, folder)
        except OSError:  # a read-only folder: each opening hashes again, and all is well otherwise
            return index
    return index


def _checked(entry: ShardEntry, folder: Path, index: Path) -> ShardEntry:
    shard = folder / entry.name
    if not shard.is_file():
        raise ValueError(f"{index} is stale: {entry.name} is gone. {_REMEDY}")
    if _same_stat(entry, shard):
        return entry
    if shard.stat().st_size != entry.bytes or sha256_file(shard) != entry.sha256:
        raise ValueError(f"{index} is stale: {entry.name} is not the file that it was made from. {_REMEDY}")
    return entry.model_copy(update={"mtime_ns": shard.stat().st_mtime_ns})


def _old_entries(folder: Path) -> tuple[ShardEntry, ...]:
    try:
        return ShardIndex.model_validate_json((folder / INDEX_NAME).read_bytes()).shards
    except (OSError, ValidationError):
        return ()


def _same_stat(entry: ShardEntry, path: Path) -> bool:
    stat = path.stat()
    return (entry.bytes, entry.mtime_ns) == (stat.st_size, stat.st_mtime_ns)


def _check_unique(folder: Path, shards: Iterable[ShardEntry]) -> None:
    where: dict[str, str] = {}
    for shard in shards:
        for key in shard.keys:
            if key in where:
                raise ValueError(
                    f"{folder}: the key {key!r} is in {where[key]} and in {shard.name}: keys must be unique. "
                    "Remove one of the files, or write it again with other keys"
                )
            where[key] = shard.name


def _write(index: ShardIndex, folder: Path) -> None:
    with atomic_write(folder / INDEX_NAME) as temporary:
        temporary.write_text(index.model_dump_json() + "\n", encoding="utf-8")
