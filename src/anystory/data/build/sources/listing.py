"""Finding files in folders, always in the same order, and what people wrote about them."""

from __future__ import annotations

import csv
import io
import os
import warnings
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath

__all__ = ["PICTURES", "VIDEOS", "Captions", "check_folder", "list_files", "mask_of", "warn_of_lost_masks"]

PICTURES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".gif"))
VIDEOS = frozenset((".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg"))

_MASK = ".mask."

_TABLES = ("captions.csv", "captions.txt")


def check_folder(folder: Path, what: str) -> None:
    """Make sure that there is a folder to read.

    Raises:
        ValueError: there is none.
    """
    if not folder.exists():
        raise ValueError(f"{folder}: no such folder. Give the folder that holds {what}")
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file. Give the folder that holds {what}")


def list_files(folder: Path, endings: Iterable[str]) -> Iterator[PurePosixPath]:
    """Files below `folder` by their endings (small letters, with the dot), relative to it, folder by folder in order.

    Links are followed. Hidden files and folders are left out, and so are, with a warning, names that are not UTF-8,
    folders that cannot be opened, and links to a folder around them.
    """
    endings = frozenset(endings)
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_warn_of_folder):
        visible = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in visible if not _leads_back(Path(parent, name), folder)]
        relative = Path(parent).relative_to(folder)
        for name in sorted(files):
            if name.startswith(".") or PurePosixPath(name).suffix.lower() not in endings:
                continue
            found = PurePosixPath(*relative.parts, name)
            try:
                str(found).encode()
            except UnicodeEncodeError:
                warnings.warn(f"{str(found)!r} is left out: its name is not UTF-8. Rename it", stacklevel=2)
                continue
            yield found


def _warn_of_folder(error: OSError) -> None:
    warnings.warn(f"{error.filename} is left out: {error.strerror}", stacklevel=2)


def _leads_back(path: Path, folder: Path) -> bool:
    """Whether `path`, below `folder`, is a link to a folder that it lies in: following it would never end."""
    if not path.is_symlink():
        return False
    target = path.resolve()
    around = [parent.resolve() for parent in path.parents if parent.is_relative_to(folder)]
    if not any(parent.is_relative_to(target) for parent in around):
        return False
    warnings.warn(f"{path} is left out: it is a link to a folder that it lies in", stacklevel=3)
    return True


def mask_of(file: PurePosixPath) -> tuple[PurePosixPath, str] | None:
    """Of `party.mask.ann.png` what it belongs to, `party`, and whose it is, `ann`; of `party.mask.png` that is empty.

    None if the file is no mask.
    """
    picture, found, rest = file.name.partition(_MASK)
    return (file.with_name(picture), rest.rpartition(".")[0]) if found and picture else None


def warn_of_lost_masks(lost: Iterable[PurePosixPath]) -> None:
    """Warn of masks that belong to no picture.

    Args:
        lost: What they would belong to, as `mask_of` gives it.
    """
    if lost := sorted(lost):
        warnings.warn(f"{len(lost)} masks belong to no picture, for example that of {lost[0]}", stacklevel=3)


class Captions:
    """What the folder's text files say about its pictures and videos.

    In this order: `party.txt` beside `party.jpg`; `captions.csv` (columns `file` and `caption`) or `captions.txt` (a
    line is a file's name, a tab, the caption) in the same folder; the same in the source's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tables: dict[PurePosixPath, dict[str, str]] = {}

    def of(self, file: PurePosixPath) -> str:
        """The caption of a file, relative to the folder; empty where there is none.

        Raises:
            ValueError: a table or text file that cannot be read.
        """
        beside = self._folder / file.with_suffix(".txt")
        if beside.name not in _TABLES and beside.is_file():
            return " ".join(_read(beside).split())
        return self._table(file.parent).get(file.name) or self._root.get(str(file), "")

    @cached_property
    def _root(self) -> dict[str, str]:
        return self._table(PurePosixPath("."))

    def _table(self, parent: PurePosixPath) -> dict[str, str]:
        if parent not in self._tables:
            self._tables[parent] = {}
            for name in _TABLES:
                path = self._folder / parent / name
                if path.is_file():
                    self._tables[parent] = _parse(path)
                    break
        return self._tables[parent]


def _parse(path: Path) -> dict[str, str]:
    text = _read(path)
    if path.suffix == ".csv":
        rows = csv.DictReader(io.StringIO(text))
        try:
            if not {"file", "caption"} <= set(rows.fieldnames or ()):
                raise ValueError(f'{path}: the first line must name the columns "file" and "caption"')
            pairs = [(row["file"] or "", row["caption"] or "") for row in rows]
        except csv.Error as error:
            raise ValueError(f"{path} is no table that can be read ({error})") from None
    else:
        # Not splitlines: a caption may hold U+2028 and its like.
        lines = [line for line in text.split("\n") if line.strip()]
        wrong = next((line for line in lines if "\t" not in line), None)
        if wrong is not None:
            raise ValueError(f"{path}: a line is a file's name, a tab and the caption, got {wrong[:60]!r}")
        pairs = [(name, caption) for name, caption in (line.split("\t", 1) for line in lines)]
    return {name.strip().removeprefix("./"): " ".join(caption.split()) for name, caption in pairs}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text. Save it as UTF-8") from None
