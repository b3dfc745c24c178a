"""An item's outcome as bytes, and the folder that keeps outcomes.

An outcome is a stored (not compressed) zip file: `outcome.json`, and the samples' pictures as `0/image.png`, `1/…`.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from anystory.data.build.candidates import Rejection
from anystory.data.build.fingerprints import ImageFingerprint
from anystory.data.build.sources.base import Item
from anystory.data.records import SampleRecord
from anystory.files import atomic_write, sha256_file

__all__ = ["FileState", "ItemOutcome", "WorkFolder", "file_states"]

_HEADER = "outcome.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class FileState:
    """A file that an outcome was made of. A file of the same size and time is not read again."""

    name: str
    size: int
    modified: int
    """In nanoseconds."""
    sha256: str


class ItemOutcome(BaseModel):
    """What an item became. It holds as long as the item, the plan and the files are the same."""

    model_config = ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64")

    key: str
    """The item's."""
    item: str
    """`Item.digest`."""
    plan: str
    """`Plan.digest`."""
    files: tuple[FileState, ...]
    records: tuple[SampleRecord, ...] = ()
    fingerprints: tuple[ImageFingerprint, ...] = ()
    """Of each sample's target."""
    pictures: tuple[dict[str, bytes], ...] = Field(default=(), exclude=True)
    """Of each sample {file: content}."""
    rejections: tuple[Rejection, ...] = ()

    def to_bytes(self) -> bytes:
        """The same outcome gives the same bytes."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(zipfile.ZipInfo(_HEADER, _EPOCH), self.model_dump_json(exclude_defaults=True))
            for number, files in enumerate(self.pictures):
                for name, data in files.items():
                    archive.writestr(zipfile.ZipInfo(f"{number}/{name}", _EPOCH), data)
        return buffer.getvalue()

    @classmethod
    def from_file(cls, file: Any, pictures: bool = True) -> ItemOutcome:
        """Read an outcome from a path or an open file, with or without its pictures.

        Raises:
            ValueError, KeyError, OSError, zipfile.BadZipFile: it is damaged.
        """
        with zipfile.ZipFile(file) as archive:
            found = cls.model_validate_json(archive.read(_HEADER))
            if not pictures:
                return found
            read = tuple({f: archive.read(f"{i}/{f}") for f in record.files} for i, record in enumerate(found.records))
        return found.model_copy(update={"pictures": read})


def file_states(folder: Path, names: Iterable[str]) -> tuple[FileState, ...]:
    """Size, time and hash of files. A missing one counts as empty: reading it will report that."""
    return tuple(_state(folder / name, name) for name in names)


class WorkFolder:
    """Outcomes by item: a build that was killed does not repeat them.

    Args:
        folder: Made if missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, key: str, outcome: bytes) -> None:
        """Keep an item's outcome, in place of an older one."""
        with atomic_write(self._path(key)) as temporary:
            temporary.write_bytes(outcome)

    def get(self, key: str, pictures: bool = True) -> ItemOutcome | None:
        """An item's outcome; None if there is none that can be read."""
        try:
            return ItemOutcome.from_file(self._path(key), pictures)
        except (ValueError, KeyError, OSError, zipfile.BadZipFile):
            return None

    def has(self, item: Item, plan: str, folder: Path) -> bool:
        """Whether the stored outcome of an item is still valid.

        Args:
            item: As the source lists it now.
            plan: The plan's digest.
            folder: The source's folder. Files whose size and time have not changed are not read.
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
