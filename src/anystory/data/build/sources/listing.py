"""The files of a folder in a fixed order, and reports of those that are not used."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from anystory.data.build.candidates import Rejection
from anystory.data.build.sources.captions import is_text
from anystory.subjects.pictures import HEIF_ENDINGS, picture_endings

__all__ = ["PICTURES", "VIDEOS", "find_files", "left_out_file", "nothing_in"]

PICTURES = picture_endings()
VIDEOS = frozenset((".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg"))


def find_files(
    folder: Path, what: str, endings: frozenset[str], left_out: list[Rejection]
) -> tuple[list[PurePosixPath], list[PurePosixPath]]:
    """The files below `folder` with one of the endings, and the texts, in order.

    Args:
        folder: Where to look.
        what: What should be there, for messages.
        endings: Of the files that the source reads.
        left_out: Gets all other files.

    Raises:
        ValueError: there is no such folder.
    """
    if not folder.exists():
        raise ValueError(f"{folder}: no such folder. Give the folder that holds {what}")
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file. Give the folder that holds {what}")
    wanted: list[PurePosixPath] = []
    texts: list[PurePosixPath] = []
    for file in _list_files(folder, left_out):
        if file.suffix.lower() in endings:
            wanted.append(file)
        elif is_text(file):
            texts.append(file)
        else:
            left_out.append(_of_other_kind(file))
    return wanted, texts


def _list_files(folder: Path, left_out: list[Rejection]) -> Iterator[PurePosixPath]:
    """All files below `folder`, relative to it, folder by folder in order.

    Links are followed. Hidden files and folders are skipped.

    Args:
        folder: Where to look.
        left_out: Gets what cannot be used: names that are not UTF-8, folders that cannot be opened, links to nothing or
            to a folder around them, and pipes and devices, which might never end.
    """

    def closed(error: OSError) -> None:
        left_out.append(left_out_file("closed_folder", error.filename, f"{error.filename}: {error.strerror}"))

    for parent, folders, files in os.walk(folder, followlinks=True, onerror=closed):
        visible = sorted(name for name in folders if not name.startswith("."))
        back = [name for name in visible if _leads_back(Path(parent, name), folder)]
        for name in back:
            path = Path(parent, name)
            left_out.append(left_out_file("link", str(path), f"{path} is a link to a folder that it lies in"))
        folders[:] = [name for name in visible if name not in back]
        relative = Path(parent).relative_to(folder)
        for name in sorted(files):
            if name.startswith("."):
                continue
            found = PurePosixPath(*relative.parts, name)
            try:
                str(found).encode()
            except UnicodeEncodeError:
                left_out.append(left_out_file("name", found, f"{found}: the name is not UTF-8. Rename it"))
                continue
            if not Path(parent, name).is_file():
                left_out.append(left_out_file("no_file", found, f"{found} is a pipe, a device or a dead link"))
                continue
            yield found


def _of_other_kind(file: PurePosixPath) -> Rejection:
    """A file that is neither a text nor of a kind that the source reads; counted by its ending."""
    ending = file.suffix.lower()
    detail = f"{file} is of a kind that is not read here"
    if ending in HEIF_ENDINGS and ending not in PICTURES:
        detail = f"{file}: reading it needs pillow-heif (pip install 'anystory[heif]')"
    return left_out_file(f"ending_{ending.removeprefix('.') or 'none'}", file, detail)


def nothing_in(folder: Path, what: str, endings: Iterable[str], left_out: Iterable[Rejection]) -> ValueError:
    """The error for a folder without anything that a source reads, with what it has instead."""
    others = Counter(PurePosixPath(one.what).suffix.lower() or "none" for one in left_out if "ending_" in one.reason)
    has = f"; it has {', '.join(f'{count} × {ending}' for ending, count in others.most_common(5))}" if others else ""
    return ValueError(f"{folder}: no {what} in it or in its folders ({' '.join(sorted(endings))}){has}")


def left_out_file(reason: str, file: PurePosixPath | str, detail: str) -> Rejection:
    """A file that is not used, and why; names that are not UTF-8 are written with escapes."""
    what, detail = (text.encode(errors="backslashreplace").decode() for text in (str(file), detail))
    return Rejection(reason=reason, what=what, detail=detail, unit="file")


def _leads_back(path: Path, folder: Path) -> bool:
    """Whether `path`, below `folder`, is a link to a folder that it lies in: following it would never end."""
    if not path.is_symlink():
        return False
    target = path.resolve()
    around = [parent.resolve() for parent in path.parents if parent.is_relative_to(folder)]
    return any(parent.is_relative_to(target) for parent in around)
