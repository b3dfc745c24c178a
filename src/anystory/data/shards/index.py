"""`index.json` of a folder of shards: where each sample lies, so that any of them is one read away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from anystory.data.bad_samples import BadSample
from anystory.data.shards.tar_layout import TarSample, read_tar_sample, tar_samples
from anystory.data.table import SampleRow
from anystory.files import atomic_write, sha256_file
from anystory.input_files import read_bytes, read_object, refuse_special, why_invalid

__all__ = ["INDEX_NAME", "ShardEntry", "ShardIndex", "index_shard", "load_index", "rebuild_index", "shard_paths"]

INDEX_NAME = "index.json"
_LARGEST = 2**32
"""Bytes of an index: some hundred million samples."""
_REMEDY = "`anystory data index FOLDER` writes it again"


class ShardEntry(BaseModel):
    """One tar file. The lists have one value per sample, in the order in which the samples lie in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str
    bytes: int
    mtime_ns: int
    """When the file was last changed: if that is the same, it need not be hashed again."""
    samples: int
    keys: tuple[str, ...]
    offsets: tuple[int, ...]
    """Where a sample's first header begins, in bytes."""
    sizes: tuple[int, ...]
    """Bytes from there to the end of its last member."""
    subjects: tuple[int, ...]
    """These three: see `SampleRow`."""
    heldout: tuple[bool, ...]
    masked: tuple[bool, ...]

    @model_validator(mode="after")
    def _fits(self) -> ShardEntry:
        for name in ("keys", "offsets", "sizes", "subjects", "heldout", "masked"):
            if len(getattr(self, name)) != self.samples:
                raise ValueError(f"{name} has {len(getattr(self, name))} values for {self.samples} samples")
        if Path(self.name).name != self.name:
            raise ValueError(f"name: a shard lies beside its index, got {self.name!r}")
        for key, offset, size in zip(self.keys, self.offsets, self.sizes, strict=True):
            if offset < 0 or size < 0 or offset + size > self.bytes:
                raise ValueError(f"the sample {key!r} lies outside of {self.name}")
        return self

    @property
    def rows(self) -> Iterator[SampleRow]:
        """What is known of the samples without reading them."""
        return map(SampleRow, self.keys, self.subjects, self.heldout, self.masked)


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
    with path.open("rb") as file:
        return entry_of(path, samples, [_row(file, sample) for sample in samples])


def _row(file: BinaryIO, sample: TarSample) -> SampleRow:
    try:
        return SampleRow.of(read_tar_sample(file, sample)[0])
    except BadSample:  # readers will say so, and count it
        return SampleRow(sample.key)


def entry_of(path: Path, samples: Sequence[TarSample], rows: Sequence[SampleRow]) -> ShardEntry:
    """An entry for a tar file that is complete at `path`."""
    stat = path.stat()
    return ShardEntry(
        name=path.name,
        sha256=sha256_file(path),
        bytes=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        samples=len(samples),
        keys=tuple(sample.key for sample in samples),
        offsets=tuple(sample.offset for sample in samples),
        sizes=tuple(sample.size for sample in samples),
        subjects=tuple(row.subjects for row in rows),
        heldout=tuple(row.heldout for row in rows),
        masked=tuple(row.masked for row in rows),
    )


def rebuild_index(folder: str | Path, known: Iterable[ShardEntry] = ()) -> ShardIndex:
    """Write `index.json` for a folder's tar files, including those that another program wrote in this layout.

    Files whose size and time of change are in the old index are not read again.

    Args:
        folder: Where the tar files lie.
        known: Entries that the caller has made.

    Raises:
        ValueError: no tar files, one that is not whole, two samples with one key, or another program's `index.json`.
    """
    folder = Path(folder)
    paths = shard_paths(folder)
    if not paths:
        raise ValueError(f"{folder} holds no shards (tar files)")
    _check_ours(folder / INDEX_NAME)
    entries = {entry.name: entry for entry in (*_old_entries(folder), *known)}
    kept = {path: entries[path.name] for path in paths if path.name in entries and _same_stat(entries[path.name], path)}
    shards = [kept.get(path) or index_shard(path) for path in paths]
    _check_unique(folder, shards)
    index = ShardIndex(shards=tuple(shards))
    _write(index, folder)
    return index


def load_index(folder: str | Path) -> ShardIndex:
    """Read a folder's index and check that the tar files are still those that it was made from.

    A file whose time of change differs (a copy) is hashed. If its content is the same, the index is updated, unless the
    folder is read-only.

    Raises:
        ValueError: no index, a damaged one, or a stale one.
    """
    folder = Path(folder)
    path = folder / INDEX_NAME
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder of shards")
    if not path.is_file():
        raise ValueError(f"{folder} has no {INDEX_NAME}: {_REMEDY}")
    try:
        index = ShardIndex.model_validate_json(read_bytes(path, _LARGEST))
    except ValidationError as error:
        raise ValueError(f"{path} is no index of shards ({why_invalid(error)[:300]}): {_REMEDY}") from None
    names = {entry.name for entry in index.shards}
    unknown = [found.name for found in shard_paths(folder) if found.name not in names]
    if unknown:
        raise ValueError(f"{path} is stale: it does not know {', '.join(unknown[:3])}. {_REMEDY}")
    checked = tuple(_checked(entry, folder, path) for entry in index.shards)
    if checked != index.shards:
        index = ShardIndex(shards=checked)
        with suppress(OSError):  # a read-only folder: each opening hashes again
            _write(index, folder)
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


def _check_ours(index: Path) -> None:
    """Refuse to overwrite another program's file; a damaged index is written again."""
    refuse_special(index)
    try:
        found = read_object(index) if index.exists() else {}
    except ValueError:
        return
    if found and "shards" not in found:
        raise ValueError(f"{index} is another program's file (it holds {', '.join(sorted(found)[:3])}): move it away")


def _old_entries(folder: Path) -> tuple[ShardEntry, ...]:
    try:
        return ShardIndex.model_validate_json(read_bytes(folder / INDEX_NAME, _LARGEST)).shards
    except (OSError, ValueError):
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
