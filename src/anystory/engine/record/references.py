"""The files that went into a picture, copied beside it, and checked when it is drawn again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from anystory.engine.record.schema import FileRecord
from anystory.files import atomic_write, sha256_file, short_name, without_surrogates
from anystory.input_files import MOST_PICTURE

__all__ = ["check_files", "keep_file"]

_LONGEST_SUFFIX = 32
"""Characters; what is longer is part of a name with a dot in it."""

_HASH_LENGTHS = (8, 16, 64)
"""Characters of a file's hash that the name of its copy ends with: the first that is free."""


def keep_file(path: str | os.PathLike[str], folder: Path, base: Path) -> FileRecord:
    """Copy a file into `folder`, once per content, and return its record relative to `base`.

    The copy's name ends with the beginning of its hash. If a file of that name has another content, it stays as it is,
    and the name gets more of the hash. A copy that is copied again keeps its name.

    Raises:
        FileExistsError: such files have taken all names.
    """
    path = Path(path)
    digest = sha256_file(path)
    stem, suffix = without_surrogates(path.stem), without_surrogates(path.suffix)
    if len(suffix) > _LONGEST_SUFFIX:
        stem, suffix = stem + suffix, ""
    ends = [f"-{digest[:length]}" for length in _HASH_LENGTHS]
    stem = next((stem.removesuffix(end) for end in ends if stem.endswith(end)), stem)
    names = [short_name(stem, end + suffix) for end in ends]
    for copy in (folder / name for name in names):
        with suppress(FileExistsError), atomic_write(copy, overwrite=False) as temporary:
            shutil.copyfile(path, temporary)
        if copy.is_file() and sha256_file(copy) == digest:
            break
    else:
        raise FileExistsError(f"{folder} holds other files under the names {', '.join(names)}: move them away")
    original = without_surrogates(str(path.resolve()))
    return FileRecord(file=copy.relative_to(base).as_posix(), sha256=digest, original=original)


def check_files(records: Sequence[FileRecord], folder: Path) -> list[str]:
    """One line for each file that is no longer what it was.

    Raises:
        ValueError: a file is gone, or far larger than any picture.
    """
    lines = []
    for record in records:
        path = folder / record.file
        if not path.is_file():
            raise ValueError(f"{path} is missing: a record needs the files in {path.parent.name}/ beside it")
        if path.stat().st_size > MOST_PICTURE:
            raise ValueError(f"{path} is larger than {MOST_PICTURE / 2**20:,.0f} MiB, which no picture is")
        if sha256_file(path) != record.sha256:
            lines.append(f"{record.file}: another content (it was sha256 {record.sha256[:12]}…)")
    return lines
