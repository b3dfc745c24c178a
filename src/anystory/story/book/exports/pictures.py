"""Pages as pictures: PNG files, and a comic archive (CBZ) with ComicInfo.xml."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

from anystory.story.book.exports.archive import Archive
from anystory.story.book.pages.page import LaidOutBook
from anystory.story.book.painting import png, rasterise

__all__ = ["page_files", "write_cbz", "write_pages"]


def page_files(laid_out: LaidOutBook) -> list[str]:
    """File names of the pages as pictures, in order."""
    width = max(len(str(len(laid_out.pages))), 3)
    return [f"page-{index:0{width}}.png" for index in range(1, len(laid_out.pages) + 1)]


def write_pages(laid_out: LaidOutBook, folder: Path, dpi: float) -> None:
    """Write each page as a PNG at `dpi` pixels per inch into an existing folder."""
    for name, page in zip(page_files(laid_out), laid_out.pages, strict=True):
        (folder / name).write_bytes(png(rasterise(page, laid_out.typefaces, dpi), dpi))


def write_cbz(laid_out: LaidOutBook, path: Path, dpi: float) -> None:
    """Write the pages as a comic archive."""
    sizes = []
    with Archive(path) as archive:
        for name, page in zip(page_files(laid_out), laid_out.pages, strict=True):
            picture = rasterise(page, laid_out.typefaces, dpi)
            content = png(picture, dpi)
            sizes.append((picture.width, picture.height, len(content)))
            archive.add(name, content, packed=False)
        archive.add("ComicInfo.xml", _comic_info(laid_out, sizes).encode("utf-8"))


def _comic_info(laid_out: LaidOutBook, sizes: list[tuple[int, int, int]]) -> str:
    """What readers know of the book (ComicInfo 2.0; its elements stand in the schema's order)."""
    book = laid_out.book
    said = [("Title", book.title), ("Summary", book.description), ("Writer", book.author)]
    said += [("PageCount", str(len(sizes))), ("LanguageISO", book.language)]
    said += [("Manga", "YesAndRightToLeft" if laid_out.right_to_left else "No")]
    lines = [f"  <{name}>{escape(text)}</{name}>" for name, text in said if text]
    pages = []
    for index, ((width, height, size), page) in enumerate(zip(sizes, laid_out.pages, strict=True)):
        kind = ' Type="FrontCover"' if page.label == "Cover" else ""
        pages.append(
            f'    <Page Image="{index}"{kind} ImageSize="{size}" ImageWidth="{width}" ImageHeight="{height}"/>'
        )
    return "\n".join(
        [
            '<?xml version="1.0" encoding="utf-8"?>',
            '<ComicInfo xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">',
            *lines,
            "  <Pages>",
            *pages,
            "  </Pages>",
            "</ComicInfo>",
            "",
        ]
    )
