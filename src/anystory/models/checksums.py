"""`SHA256SUMS`: the hashes of a folder's files, in the format of `sha256sum -c`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

__all__ = ["SUMS", "read_sums", "write_sums"]

SUMS = "SHA256SUMS"

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def read_sums(folder: Path) -> dict[str, str]:
    """{file name: hash} of a folder; empty where there is no list.

    Raises:
        ValueError: a line of the list cannot be read.
    """
    path = folder / SUMS
    if not path.is_file():
        return {}
    sums = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{path}, line {number}: expected a SHA-256 and a file name, got {line[:80]!r}")
        sums[match.group(2)] = match.group(1)
    return sums


def write_sums(folder: Path, sums: Mapping[str, str]) -> None:
    """Writes the list."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    (folder / SUMS).write_text(lines, encoding="utf-8")
