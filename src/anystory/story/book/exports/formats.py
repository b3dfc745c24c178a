"""All formats that a book can be exported to, and writing them: whole or not at all, and over nothing by itself."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from anystory.extras import need
from anystory.files import atomic_folder, atomic_write
from anystory.story.book.exports.animatic import write_animatic
from anystory.story.book.exports.epub import write_epub
from anystory.story.book.exports.html import write_html
from anystory.story.book.exports.layers import write_layers
from anystory.story.book.exports.pdf import write_pdf
from anystory.story.book.exports.pictures import write_cbz, write_pages
from anystory.story.book.pages.page import LaidOutBook

__all__ = ["FORMATS", "check_targets", "export_book", "targets"]


class Format(NamedTuple):
    """One kind of file, or of folder."""

    target: str
    """Its name; `{}` is the book's."""
    write: Callable[[LaidOutBook, Path, float], None]
    """Writes it to a path that is new (a file) or empty (a folder), at so many pixels per inch."""
    files: str | None = None
    """What a folder holds, as a pattern; None for a single file."""
    needs: tuple[str, str] | None = None
    """A module that may be missing, and its extra."""


FORMATS: dict[str, Format] = {
    "png": Format("{}-pages", write_pages, r"page-\d+\.png"),
    "pdf": Format("{}.pdf", write_pdf),
    "cbz": Format("{}.cbz", write_cbz),
    "epub": Format("{}.epub", write_epub),
    "html": Format("{}.html", write_html),
    "layers": Format("{}-layers", write_layers, r"panel-\d+\.ora"),
    "mp4": Format("{}.mp4", write_animatic, needs=("av", "video")),
}
"""By name, as `--to` takes them."""


def targets(names: Sequence[str], out: Path, stem: str) -> dict[str, Path]:
    """Where each format is written.

    Raises:
        ValueError: an unknown format, or one whose library is missing.
    """
    if not names:
        raise ValueError(f"no format is named: choose from {', '.join(FORMATS)}")
    found = {}
    for name in names:
        if name not in FORMATS:
            raise ValueError(f"there is no format {name!r}: choose from {', '.join(FORMATS)}")
        if (needs := FORMATS[name].needs) is not None:
            need(needs[0], f"the format {name}", extra=needs[1])
        found[name] = out / FORMATS[name].target.format(stem)
    return found


def check_targets(chosen: dict[str, Path], *, overwrite: bool) -> None:
    """Refuse to write over what is there, or, with `overwrite`, over what no export wrote.

    Raises:
        ValueError: something is in the way; the message says what to do.
    """
    for name, path in chosen.items():
        files = FORMATS[name].files
        if os.path.lexists(path) and not overwrite:
            raise ValueError(f"{path} exists already: name another folder, or replace it with --overwrite")
        if os.path.lexists(path) and path.is_dir() != (files is not None):
            what = "a folder, not a file" if files is None else "a file, not a folder"
            raise ValueError(f"{path} is {what}: move it, or name another folder")
        for entry in sorted(path.iterdir()) if path.is_dir() else ():
            if not re.fullmatch(files or "", entry.name):
                raise ValueError(f"{path} holds {entry.name}, which no export wrote: move it, or name another folder")


def export_book(
    laid_out: LaidOutBook, chosen: dict[str, Path], *, dpi: float, overwrite: bool = False
) -> Iterator[tuple[str, Path]]:
    """Write a book in each format, and yield (format, path) as each is there.

    Args:
        laid_out: the book.
        chosen: see `targets`.
        dpi: pixels per inch.
        overwrite: whether to replace earlier exports.

    Raises:
        ValueError: see `check_targets`; or what a format says about the book.
        OSError: something cannot be written; what it would have replaced is untouched.
    """
    check_targets(chosen, overwrite=overwrite)
    for name, path in chosen.items():
        if FORMATS[name].files is None:
            with atomic_write(path, overwrite=overwrite) as temporary:
                FORMATS[name].write(laid_out, temporary, dpi)
        else:
            with atomic_folder(path) as temporary:
                FORMATS[name].write(laid_out, temporary, dpi)
        yield name, path
