"""`anystory story export`: a rendered book as files to read, print and share."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from anystory.cli.flags.outputs import Overwrite, check_out_folder
from anystory.cli.flags.pages import PageFlags, split_names
from anystory.cli.flags.spread import spread
from anystory.cli.terminal.announce import announce
from anystory.files import only_writer

__all__ = ["export"]


@spread
def export(
    book: Annotated[Path, typer.Argument(help="Folder of the book.", metavar="BOOK")],
    pages: PageFlags,
    to: Annotated[
        str, typer.Option("--to", metavar="FORMAT,…", help="What to write: png, pdf, cbz, epub, html, layers, mp4.")
    ] = "pdf",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the files; by default BOOK/export.")
    ] = None,
    dpi: Annotated[float, typer.Option(min=36, max=600, help="Pixels per inch of the pictures.")] = 200,
    overwrite: Overwrite = False,
) -> None:
    """Letter a book's panels, put them onto pages, and write them as files.

    Text is fitted into balloons and captions beside the heads. If it does not fit, the message names the panel and the
    line. The same book gives the same files, byte for byte.
    """
    folder = out or book / "export"
    check_out_folder(folder)
    announce(f"reading {book}")
    from anystory.story.book.exports.formats import check_targets, export_book, targets
    from anystory.story.book.from_folder import contents_of, layout_of
    from anystory.story.book.pages.page import lay_out
    from anystory.story.book_folder import read_book

    chosen = targets(split_names(to), folder, book.resolve().name)
    found = read_book(book)
    layout = pages.applied_to(layout_of(found))
    check_targets(chosen, overwrite=overwrite)
    inside = folder.resolve().is_relative_to(book.resolve())
    with only_writer(book) if inside else nullcontext():
        laid_out = lay_out(contents_of(found), layout)
        for name, path in export_book(laid_out, chosen, dpi=dpi, overwrite=overwrite):
            print(f"{name}: {path}", flush=True)
