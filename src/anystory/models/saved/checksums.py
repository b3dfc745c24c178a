"""`SHA256SUMS.txt`: the hashes of a folder's files, in the format of `sha256sum -c`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from anystory.files import sha256_file
from anystory.input_files import read_text

__all__ = ["SUMS", "UNLISTED", "read_sums", "write_all_sums", "write_sums"]

SUMS = "SHA256SUMS.txt"
"""With a suffix: when diffusers looks for variants of weights, it splits every file's name at its dots."""

UNLISTED = ("README.md", SUMS)
"""Files without a hash in the list: the card, which people edit, and the list itself."""

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def read_sums(folder: Path) -> dict[str, str]:
    """{file name: hash} of a folder; empty where there is no list. Names may lead into folders below it.

    Raises:
        ValueError: a line of the list cannot be read, or names a file outside the folder.
    """
    path = folder / SUMS
    if not path.is_file():
        return {}
    sums = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if match is None or match.group(2).startswith("/") or ".." in PurePosixPath(match.group(2)).parts:
            raise ValueError(f"{path}, line {number}: expected a SHA-256 and a file name, got {line[:80]!r}")
        sums[match.group(2)] = match.group(1)
    return sums


def write_all_sums(folder: Path) -> None:
    """Lists every file of a folder and of those below it, but for cards (`UNLISTED`); names are relative to it."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in UNLISTED]
    write_sums(folder, {path.relative_to(folder).as_posix(): sha256_file(path) for path in files})


def write_sums(folder: Path, sums: Mapping[str, str]) -> None:
    """Writes the list."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    (folder / SUMS).write_text(lines, encoding="utf-8")
