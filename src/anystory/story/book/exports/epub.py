"""EPUB 3 with a fixed layout: every page is as it is printed, its words can be searched and read aloud."""

from __future__ import annotations

import hashlib
import uuid
from html import escape
from pathlib import Path

from anystory.story.book.exports.archive import Archive
from anystory.story.book.exports.svg import page_svg
from anystory.story.book.exports.transcript import spoken_words
from anystory.story.book.pages.page import LaidOutBook, Page, PanelOnPage
from anystory.story.book.painting import jpeg, panel_picture, rasterise
from anystory.version import __version__

__all__ = ["write_epub"]

_MODIFIED = "2000-01-01T00:00:00Z"
"""EPUB wants a date; a fixed one keeps the file the same each time."""
_CONTAINER = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/package.opf" media-type="application/oebps-package+xml"/></rootfiles></container>\n'
)
_STYLE = (
    "html,body{margin:0;padding:0}svg{display:block;width:100%;height:100%}"
    ".words{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}\n"
)
_TYPES = {".xhtml": "application/xhtml+xml", ".jpg": "image/jpeg", ".css": "text/css"}


def write_epub(laid_out: LaidOutBook, path: Path, dpi: float) -> None:
    """Write the book as one EPUB with pictures at `dpi` pixels per inch."""
    files: dict[str, bytes] = {"style.css": _STYLE.encode("ascii")}
    files["cover.jpg"] = jpeg(rasterise(laid_out.pages[0], laid_out.typefaces, dpi))
    names = []
    for index, page in enumerate(laid_out.pages, start=1):
        names.append(f"page-{index:03}.xhtml")
        files[names[-1]] = _page(laid_out, page, index, files, dpi).encode("utf-8")
    files["nav.xhtml"] = _contents(laid_out, names).encode("utf-8")
    with Archive(path) as archive:
        archive.add("mimetype", b"application/epub+zip", packed=False)
        archive.add("META-INF/container.xml", _CONTAINER.encode("ascii"))
        archive.add("OEBPS/package.opf", _package(laid_out, files, names).encode("utf-8"))
        for name in sorted(files):
            archive.add(f"OEBPS/{name}", files[name], packed=not name.endswith(".jpg"))


def _page(laid_out: LaidOutBook, page: Page, index: int, files: dict[str, bytes], dpi: float) -> str:
    """A page's XHTML; its pictures go into `files`."""

    def picture(on_page: PanelOnPage) -> str:
        name = f"page-{index:03}-panel-{on_page.panel.number:03}.jpg"
        files[name] = jpeg(panel_picture(on_page, dpi / 72))
        return name

    drawn = page_svg(laid_out, page, picture)
    words = "".join(
        f"<p>{escape(f'{spoken.name}: ' if spoken.name else '')}{escape(spoken.text)}</p>"
        for spoken in spoken_words(page)
    )
    head = (
        f'<meta name="viewport" content="width={round(page.width)}, height={round(page.height)}"/>'
        '<link rel="stylesheet" type="text/css" href="style.css"/>'
    )
    size = f"width:{round(page.width)}px;height:{round(page.height)}px"
    body = f'<div style="{size}">{drawn}</div><div class="words">{words}</div>'
    return _document(laid_out, page.label, head, body)


def _contents(laid_out: LaidOutBook, names: list[str]) -> str:
    pages = list(zip(names, laid_out.pages, strict=True))
    rows = "".join(f'<li><a href="{name}">{escape(page.label)}</a></li>' for name, page in pages)
    title = escape(laid_out.book.title)
    body = (
        f'<nav epub:type="toc" id="toc"><h1>{title}</h1><ol><li><a href="{names[0]}">{title}</a></li></ol></nav>'
        f'<nav epub:type="page-list" hidden="hidden"><ol>{rows}</ol></nav>'
    )
    return _document(laid_out, laid_out.book.title, "", body)


def _document(laid_out: LaidOutBook, title: str, head: str, body: str) -> str:
    language = escape(laid_out.book.language)
    direction = "rtl" if laid_out.typefaces.right_to_left else "ltr"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE html>\n'
        '<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops" '
        f'lang="{language}" xml:lang="{language}" dir="{direction}">'
        f"<head><title>{escape(title)}</title>{head}</head><body>{body}</body></html>\n"
    )


def _package(laid_out: LaidOutBook, files: dict[str, bytes], names: list[str]) -> str:
    book = laid_out.book
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(files[name])
    identifier = uuid.uuid5(uuid.NAMESPACE_OID, digest.hexdigest())
    items = "".join(_item(name) for name in sorted(files))
    order = "".join(f'<itemref idref="{_id(name)}"/>' for name in names)
    described = f"<dc:description>{escape(book.description)}</dc:description>" if book.description else ""
    author = f"<dc:creator>{escape(book.author)}</dc:creator>" if book.author else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="book" '
        f'xml:lang="{escape(book.language)}">'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f'<dc:identifier id="book">urn:uuid:{identifier}</dc:identifier><dc:title>{escape(book.title)}</dc:title>'
        f"<dc:language>{escape(book.language)}</dc:language>{author}{described}"
        f'<meta property="dcterms:modified">{_MODIFIED}</meta>'
        '<meta property="rendition:layout">pre-paginated</meta><meta property="rendition:spread">auto</meta>'
        '<meta property="schema:accessMode">visual</meta><meta property="schema:accessMode">textual</meta>'
        '<meta property="schema:accessModeSufficient">textual</meta>'
        '<meta property="schema:accessibilityFeature">alternativeText</meta>'
        '<meta property="schema:accessibilityHazard">none</meta>'
        f'<meta name="generator" content="AnyStory {__version__}"/></metadata>'
        f"<manifest>{items}</manifest>"
        f'<spine page-progression-direction="{"rtl" if laid_out.right_to_left else "ltr"}">{order}</spine></package>\n'
    )


def _item(name: str) -> str:
    properties = {"nav.xhtml": "nav", "cover.jpg": "cover-image"}.get(name, "")
    if name.startswith("page-") and name.endswith(".xhtml"):
        properties = "svg"
    said = f' properties="{properties}"' if properties else ""
    return f'<item id="{_id(name)}" href="{name}" media-type="{_TYPES[Path(name).suffix]}"{said}/>'


def _id(name: str) -> str:
    return name.replace(".", "-")
