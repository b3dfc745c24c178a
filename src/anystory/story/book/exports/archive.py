"""Zip files that are the same each time: fixed dates and permissions, files in the order in which they are added."""

from __future__ import annotations

import zipfile
from pathlib import Path
from types import TracebackType

__all__ = ["Archive"]

_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip file can hold."""


class Archive:
    """A zip file being written."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "w")

    def add(self, name: str, content: bytes, *, packed: bool = True) -> None:
        """Add a file; `packed` is false for what is compressed already, or must stand as it is."""
        info = zipfile.ZipInfo(name, _DATE)
        info.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
        info.external_attr = 0o644 << 16
        info.create_system = 3
        self._zip.writestr(info, content)

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()
