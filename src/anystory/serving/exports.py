"""A story's book as a file, written by a process of its own: laying out pages keeps a core busy."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from anystory.files import atomic_write, only_writer
from anystory.process_pool import ProcessPool

__all__ = ["EXPORTS", "ExportFormat", "export_file"]

ExportFormat = Literal["pdf", "cbz", "epub", "html", "png", "layers", "mp4"]

EXPORTS: dict[str, str] = {
    "pdf": "application/pdf",
    "cbz": "application/vnd.comicbook+zip",
    "epub": "application/epub+zip",
    "html": "text/html",
    "png": "application/zip",
    "layers": "application/zip",
    "mp4": "video/mp4",
}
"""What each format is sent as; a folder of files is sent as a zip."""

_PATIENCE = 300.0
_DPI = 200


class _Order(NamedTuple):
    book: Path
    form: str
    out: Path


def export_file(book: Path, form: str, out: Path) -> Path:
    """Write a book in a format, unless that was done before.

    Args:
        book: The book's folder; all panels are drawn.
        form: Of `EXPORTS`.
        out: The folder for exports.

    Returns:
        The file.

    Raises:
        ValueError: what the format says about the book; its library is missing.
        OSError: it cannot be written.
    """
    with only_writer(out, form, wait=_PATIENCE):
        path = out / f"{form}.zip" if EXPORTS[form] == "application/zip" else out / f"story.{form}"
        if not path.exists():
            with ProcessPool(partial(_exporter), 1) as pool:
                done = pool.submit(_Order(book, form, out))
                pool.wait()
                written = done.result()
            if written != path:
                _zip(written, path)
    return path


def _exporter():
    return _export


def _export(order: _Order) -> Path:
    from anystory.story.book.exports.formats import export_book, targets
    from anystory.story.book.from_folder import contents_of, layout_of
    from anystory.story.book.pages.page import lay_out
    from anystory.story.book_folder import read_book

    chosen = targets((order.form,), order.out, "story")
    found = read_book(order.book)
    [(_, path)] = export_book(lay_out(contents_of(found), layout_of(found)), chosen, dpi=_DPI, overwrite=True)
    return path


def _zip(folder: Path, path: Path) -> None:
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
