"""Writing samples into tar files of a handy size; a program that was killed resumes."""

from __future__ import annotations

import re
import secrets
import tarfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout
from typing_extensions import Self

from anystory.data.reading import OpenMember
from anystory.data.records import SampleRecord, check_key
from anystory.data.shards.index import ShardEntry, entry_of, rebuild_index, shard_paths
from anystory.data.shards.tar_layout import TarSample, add_member, in_shard, tar_samples
from anystory.data.table import SampleRow
from anystory.files import flush_file, flush_folder

__all__ = ["ShardWriter"]


class ShardWriter:
    """Write `NAME-000000.tar`, `NAME-000001.tar`, … and their `index.json`.

        with ShardWriter("shards", "pets") as writer:
            for record in records:
                if record.key not in writer:
                    writer.add(record, open_member)

    A tar file has a temporary name until it is full. When the block ends without an error, the last file is finished
    and the index written. When it raises, or the program is killed, the full files stay and the open one is lost: a
    second run that adds the same samples in the same order, without those that are `in writer`, ends with the same
    files. Several processes may write into one folder under different names; their parent calls `rebuild_index` at the
    end.

    Args:
        folder: Where the shards go; made if missing.
        name: Stem of their names: letters, digits, "-" and "_".
        max_bytes: A shard is full with this many bytes, or with its first sample if that is larger,
        max_samples: or with this many samples.

    Raises:
        ValueError: a name or limit out of range, or another program is writing under this name.
    """

    def __init__(
        self, folder: str | Path, name: str, *, max_bytes: int = 1_000_000_000, max_samples: int = 10_000
    ) -> None:
        for limit, value in (("max_bytes", max_bytes), ("max_samples", max_samples)):
            if value < 1:
                raise ValueError(f"`{limit}` must be at least 1, got {value}")
        self.folder, self.name = Path(folder), check_key(name)
        self.max_bytes, self.max_samples = max_bytes, max_samples
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / f".{name}.lock", timeout=0, thread_local=False)
        try:
            self._lock.acquire()  # it ends with this program, however that ends
        except Timeout:
            raise ValueError(
                f"another program is writing the shards {name!r} in {self.folder}: wait for it, or give another name"
            ) from None
        for path in self.folder.glob(f".{name}-*.tar"):
            if re.fullmatch(rf"\.{name}-\d{{6,}}-[0-9a-f]{{8}}\.tar", path.name):
                path.unlink()  # an earlier run was killed while it wrote this
        mine = [path for path in shard_paths(self.folder) if re.fullmatch(rf"{name}-\d{{6,}}\.tar", path.name)]
        self.written = {sample.key for path in mine for sample in tar_samples(path)}
        """Keys of all samples, also of those in the open shard."""
        self._next = 1 + max((int(path.stem.rpartition("-")[2]) for path in mine), default=-1)
        self._done: list[ShardEntry] = []
        self._open: _OpenShard | None = None

    def __contains__(self, key: str) -> bool:
        return key in self.written

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish_shard()
                if self.written:
                    rebuild_index(self.folder, self._done)
        finally:
            if self._open is not None:
                self._open.discard()
                self._open = None
            with suppress(OSError):  # Windows removes no open file: there it stays, empty
                Path(self._lock.lock_file).unlink()
            self._lock.release()

    def add(self, record: SampleRecord, open_member: OpenMember) -> None:
        """Append a sample; its files are read with `open_member` by the names that the record gives them.

        Raises:
            ValueError: its key is written already.
            BadSample: a file's suffix is no picture's.
            FileNotFoundError, KeyError: what `open_member` raises where a file is missing. Nothing is written then.
        """
        if record.key in self.written:
            raise ValueError(f"the key {record.key!r} is written already: keys must be unique")
        renamed, files = in_shard(record)
        members = {f"{record.key}.json": renamed.model_dump_json(exclude_defaults=True).encode()}
        members |= {member: open_member(file) for member, file in files.items()}
        size = sum(len(data) for data in members.values())
        shard = self._open
        if shard is not None and (shard.count >= self.max_samples or shard.size + size > self.max_bytes):
            self._finish_shard()
        if self._open is None:
            self._open = _OpenShard(self.folder / f"{self.name}-{self._next:06d}.tar")
            self._next += 1
        self._open.add(renamed, members)
        self.written.add(record.key)

    def _finish_shard(self) -> None:
        if self._open is not None:
            self._done.append(self._open.finish())
            self._open = None


class _OpenShard:
    """A tar file that is being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.temporary = path.with_name(f".{path.stem}-{secrets.token_hex(4)}.tar")
        self._file = self.temporary.open("xb")
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)
        self._samples: list[TarSample] = []
        self._rows: list[SampleRow] = []

    @property
    def count(self) -> int:
        return len(self._samples)

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._tar.offset

    def add(self, record: SampleRecord, members: dict[str, bytes]) -> None:
        begin = self._tar.offset
        for name, data in members.items():
            add_member(self._tar, name, data)
        self._samples.append(TarSample(record.key, begin, self._tar.offset - begin))
        self._rows.append(SampleRow.of(record))

    def finish(self) -> ShardEntry:
        """Close the file, give it its name, and say what lies where."""
        self._tar.close()
        self._file.close()
        flush_file(self.temporary)
        self.temporary.replace(self.path)
        flush_folder(self.path.parent)
        return entry_of(self.path, self._samples, self._rows)

    def discard(self) -> None:
        """Remove the file."""
        try:
            self._file.close()
        finally:  # on a full disk what is in its buffer cannot be written
            self.temporary.unlink(missing_ok=True)
