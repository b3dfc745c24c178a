"""What came out of an item, as bytes, and the folder that keeps it.

An outcome is a stored (not compressed) zip file: `outcome.json`, and the samples' pictures as `0/image.png`, `1/…`.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from anystory.data.build.candidates import Rejection
from anystory.data.build.measures import Look
from anystory.data.build.sources.base import Item
from anystory.data.records import SampleRecord
from anystory.files import atomic_write, sha256_file

__all__ = ["FileState", "Outcome", "WorkFolder", "file_states"]

_HEADER = "outcome.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class FileState:
    """A file that an outcome was made of. The time only spares reading a file again that nobody touched."""

    name: str
    size: int
    modified: int
    """In nanoseconds."""
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an item became."""

    key: str
    """The item's."""
    item: str
    """`Item.digest`,"""
    plan: str
    """`Plan.digest` and"""
    files: tuple[FileState, ...]
    """the files' content: an outcome holds as long as these three do."""
    records: tuple[SampleRecord, ...] = ()
    looks: tuple[Look, ...] = ()
    """What each sample's target is recognised by."""
    pictures: tuple[dict[str, bytes], ...] = ()
    """Of each sample {file: content}."""
    rejections: tuple[Rejection, ...] = ()

    def to_bytes(self) -> bytes:
        """The same outcome gives the same bytes."""
        header = {
            "key": self.key,
            "item": self.item,
            "plan": self.plan,
            "files": [asdict(state) for state in self.files],
            "records": [record.model_dump(mode="json", exclude_defaults=True) for record in self.records],
            "looks": [[seen.hash, seen.cells.hex()] for seen in self.looks],
            "rejections": [asdict(rejection) for rejection in self.rejections],
        }
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(zipfile.ZipInfo(_HEADER, _EPOCH), json.dumps(header))
            for number, files in enumerate(self.pictures):
                for name, data in files.items():
                    archive.writestr(zipfile.ZipInfo(f"{number}/{name}", _EPOCH), data)
        return buffer.getvalue()

    @classmethod
    def from_file(cls, file: Any, pictures: bool = True) -> Outcome:
        """Read an outcome from a path or an open file, without its pictures if only the rest is wanted.

        Raises:
            ValueError, KeyError, OSError, zipfile.BadZipFile: it is damaged.
        """
        with zipfile.ZipFile(file) as archive:
            header = json.loads(archive.read(_HEADER))
            records = tuple(SampleRecord.model_validate(record) for record in header["records"])
            found: tuple[dict[str, bytes], ...] = ()
            if pictures:
                found = tuple({f: archive.read(f"{i}/{f}") for f in record.files} for i, record in enumerate(records))
        return cls(
            key=header["key"],
            item=header["item"],
            plan=header["plan"],
            files=tuple(FileState(**state) for state in header["files"]),
            records=records,
            looks=tuple(Look(number, bytes.fromhex(cells)) for number, cells in header["looks"]),
            pictures=found,
            rejections=tuple(Rejection(**rejection) for rejection in header["rejections"]),
        )


def file_states(folder: Path, names: Iterable[str]) -> tuple[FileState, ...]:
    """Size, time and hash of files. One that is gone counts as empty: reading it will say so."""
    return tuple(_state(folder / name, name) for name in names)


class WorkFolder:
    """Outcomes by item. A build that is killed finds here what it need not do again.

    Args:
        folder: Made if missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, key: str, outcome: bytes) -> None:
        """Keep an item's outcome, in place of an older one."""
        with atomic_write(self._path(key)) as temporary:
            temporary.write_bytes(outcome)

    def get(self, key: str, pictures: bool = True) -> Outcome | None:
        """An item's outcome; None if there is none that can be read."""
        try:
            return Outcome.from_file(self._path(key), pictures)
        except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile):
            return None

    def has(self, item: Item, plan: str, folder: Path) -> bool:
        """Whether the outcome that is kept is what the item would give again.

        Args:
            item: As the source lists it now.
            plan: The plan's digest.
            folder: The source's folder. Files whose size and time are as they were are not read.
        """
        kept = self.get(item.key, pictures=False)
        if kept is None or (kept.item, kept.plan) != (item.digest(), plan):
            return False
        return tuple(state.name for state in kept.files) == item.files and all(_same(folder, s) for s in kept.files)

    def _path(self, key: str) -> Path:
        # 256 folders of equal size: there may be millions of items.
        return self.folder / "items" / hashlib.sha256(key.encode()).hexdigest()[:2] / f"{key}.zip"


def _state(path: Path, name: str) -> FileState:
    try:
        stat = path.stat()
        return FileState(name, stat.st_size, stat.st_mtime_ns, sha256_file(path))
    except OSError:
        return FileState(name, 0, 0, "")


def _same(folder: Path, state: FileState) -> bool:
    path = folder / state.name
    try:
        stat = path.stat()
        if (stat.st_size, stat.st_mtime_ns) == (state.size, state.modified):
            return True
        return stat.st_size == state.size and sha256_file(path) == state.sha256
    except OSError:
        return False
