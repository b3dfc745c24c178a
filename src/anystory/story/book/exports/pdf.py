"""PDF: text is text, in embedded fonts, tagged for readers; balloons are vectors; pictures are JPEGs.

skia paints the pages; each picture and each line of text is a layer, which becomes an object of its own. pypdf then
adds what skia-python cannot: tags with the words of each balloon and the pictures' descriptions, page labels, language
and reading direction. Nothing in the file depends on the time.
"""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import skia

from anystory.story.book.pages.page import LaidOutBook, Page
from anystory.story.book.painting import as_skia_jpeg, paint_page, panel_picture
from anystory.version import __version__

if TYPE_CHECKING:
    from pypdf import PdfWriter
    from pypdf.generic import DictionaryObject, IndirectObject

__all__ = ["write_pdf"]


@dataclass(frozen=True)
class _Tag:
    """What one layer of a page is: one picture, or one line of the words that `text` holds."""

    kind: str
    """PDF's structure type: "Figure", "P" or "H1"."""
    text: str
    """The picture's description, or all words of the balloon."""
    line: str = ""
    """What of them this layer shows, as it is to be copied."""
    first: bool = True
    """Whether a new element begins."""


def write_pdf(laid_out: LaidOutBook, path: Path, dpi: float) -> None:
    """Write the book as one PDF with pictures at `dpi` pixels per inch."""
    from pypdf import PdfReader, PdfWriter

    painted = _painted(laid_out, dpi)
    writer = PdfWriter()
    writer.append(PdfReader(io.BytesIO(painted)), import_outline=False)
    _tag_pages(writer, laid_out)
    _describe(writer, laid_out)
    for found in writer._objects:
        if isinstance(found, dict) and "/ToUnicode" in found:
            stream: Any = found["/ToUnicode"].get_object()
            stream.set_data(_plain_characters(stream.get_data().decode("ascii")).encode("ascii"))
    writer.pdf_header = "%PDF-1.7"
    writer.write(path)


def _painted(laid_out: LaidOutBook, dpi: float) -> bytes:
    metadata = skia.PDF.Metadata()
    metadata.fRasterDPI = dpi
    stream = skia.DynamicMemoryWStream()
    with skia.PDF.MakeDocument(stream, metadata) as document:
        for page in laid_out.pages:
            with document.page(page.width, page.height) as canvas:
                paint_page(
                    canvas,
                    page,
                    laid_out.typefaces,
                    lambda panel: as_skia_jpeg(panel_picture(panel, dpi / 72)),
                    layered=True,
                )
    return bytes(stream.detachAsData())


def _tags(page: Page) -> list[_Tag]:
    """What the layers of a page are, in the order in which `paint_page` paints them."""
    found = []
    for on_page in page.panels:
        found.append(_Tag("Figure", on_page.panel.alt or f"Panel {on_page.panel.number}"))
        for placed in on_page.words:
            found.extend(_lines(placed.text, placed.block.lines, "P"))
    for number, placed in enumerate(page.words):
        found.extend(_lines(placed.text, placed.block.lines, "P" if number else "H1"))
    return found


def _lines(text: str, lines: Sequence[str], kind: str) -> Iterator[_Tag]:
    """Lines as they are copied: without the hyphens that line breaks made."""
    words = " ".join(text.replace("\u00ad", "").split())
    at = 0
    for number, line in enumerate(lines):
        shown = line.replace("\u00ad", "")
        if shown.endswith("-") and not words.startswith(shown, at):
            shown = shown[:-1]
        at += len(shown)
        if words[at : at + 1] == " ":
            shown, at = shown + " ", at + 1
        yield _Tag(kind, words, shown, first=number == 0)


def _tag_pages(writer: PdfWriter, laid_out: LaidOutBook) -> None:
    """Mark each layer's content, and hang it into the tree of the document's structure."""
    from pypdf.generic import ArrayObject, DictionaryObject, NameObject, NumberObject

    root = DictionaryObject({NameObject("/Type"): NameObject("/StructTreeRoot")})
    root_reference = writer._add_object(root)
    document = _element(writer, "Document", root_reference)
    root[NameObject("/K")] = document
    numbers = ArrayObject()
    for index, (page, target) in enumerate(zip(laid_out.pages, writer.pages, strict=True)):
        tags = _tags(page)
        _mark_content(target, tags, say_lines=not laid_out.typefaces.right_to_left)
        parents = ArrayObject()
        section = _element(writer, "Sect", document)
        element = section
        for number, tag in enumerate(tags):
            if tag.first:
                words = {"/Alt" if tag.kind == "Figure" else "/ActualText": tag.text}
                element = _element(writer, tag.kind, section, page=target.indirect_reference, **words)
            _kids(element).append(NumberObject(number))
            parents.append(element)
        target[NameObject("/StructParents")] = NumberObject(index)
        target[NameObject("/Tabs")] = NameObject("/S")
        numbers.extend([NumberObject(index), writer._add_object(parents)])
    root[NameObject("/ParentTree")] = writer._add_object(DictionaryObject({NameObject("/Nums"): numbers}))
    root[NameObject("/ParentTreeNextKey")] = NumberObject(len(laid_out.pages))
    writer.root_object[NameObject("/StructTreeRoot")] = root_reference
    writer.root_object[NameObject("/MarkInfo")] = DictionaryObject({NameObject("/Marked"): _true()})


def _element(
    writer: PdfWriter, kind: str, parent: IndirectObject, page: IndirectObject | None = None, **words: str
) -> IndirectObject:
    """A new element below its parent, at the end."""
    from pypdf.generic import ArrayObject, DictionaryObject, NameObject, TextStringObject

    made = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/StructElem"),
            NameObject("/S"): NameObject(f"/{kind}"),
            NameObject("/P"): parent,
            NameObject("/K"): ArrayObject(),
        }
    )
    if page is not None:
        made[NameObject("/Pg")] = page
    for key, text in words.items():
        made[NameObject(key)] = TextStringObject(text)
    reference = writer._add_object(made)
    if "/K" in _dictionary(parent) and kind != "Document":
        _kids(parent).append(reference)
    return reference


def _dictionary(reference: IndirectObject) -> DictionaryObject:
    found: Any = reference.get_object()
    return found


def _kids(reference: IndirectObject) -> Any:
    return _dictionary(reference)["/K"]


def _true() -> Any:
    from pypdf.generic import BooleanObject

    return BooleanObject(True)


def _mark_content(page: Any, tags: Sequence[_Tag], *, say_lines: bool) -> None:
    """Put each layer (`/X6 Do`) between marks that say what it is; the rest is decoration.

    With `say_lines` each line also says its letters, for scripts whose glyphs do not tell them, and for hyphens. From
    right to left, readers understand the glyphs better.

    Raises:
        RuntimeError: the page has other layers than `tags` say; this is a bug.
    """
    forms = page["/Resources"]["/XObject"]
    left = list(enumerate(tags))

    def marked(match: re.Match[bytes]) -> bytes:
        if not left:
            raise RuntimeError("a page of the PDF has more layers than it has pictures and lines")
        number, tag = left.pop(0)
        if tag.line and say_lines:
            _say(forms[match[1].decode("ascii")].get_object(), tag.line)
        mark = f"EMC\n/{tag.kind} <</MCID {number}>> BDC\n".encode("ascii")
        return mark + match[0] + b"\nEMC\n/Artifact BMC"

    stream = page["/Contents"].get_object()
    content = re.sub(rb"^(/X\d+) Do$", marked, stream.get_data(), flags=re.MULTILINE)
    if left:
        raise RuntimeError("a page of the PDF has fewer layers than it has pictures and lines")
    stream.set_data(b"/Artifact BMC\n" + content + b"\nEMC\n")


def _say(form: Any, line: str) -> None:
    """Give a form's text its letters. They stand inside it, since poppler does not see them around it."""
    content = form.get_data()
    start, end = content.index(b"BT\n"), content.rindex(b"ET\n") + 3
    letters = line.encode("utf-16-be").hex().encode("ascii")
    head = b"/Span <</ActualText <FEFF" + letters + b">>> BDC\n"
    form.set_data(content[:start] + head + content[start:end] + b"EMC\n" + content[end:])


def _describe(writer: PdfWriter, laid_out: LaidOutBook) -> None:
    """Title and author, page labels, language, reading direction."""
    from pypdf.constants import PageLabelStyle
    from pypdf.generic import DictionaryObject, NameObject, TextStringObject

    book, root = laid_out.book, writer.root_object
    says = {"/Title": book.title, "/Author": book.author, "/Subject": book.description}
    maker = f"AnyStory {__version__}"
    writer.add_metadata({key: text for key, text in says.items() if text} | {"/Creator": maker, "/Producer": maker})
    root[NameObject("/Lang")] = TextStringObject(book.language)
    wanted = DictionaryObject({NameObject("/DisplayDocTitle"): _true()})
    wanted[NameObject("/Direction")] = NameObject("/R2L" if laid_out.right_to_left else "/L2R")
    root[NameObject("/ViewerPreferences")] = wanted
    count = len(laid_out.pages)
    covers = sum(page.label == "Cover" for page in laid_out.pages)
    if covers:
        writer.set_page_label(0, covers - 1, prefix="Cover")
    if count > covers:
        writer.set_page_label(covers, count - 1, style=PageLabelStyle.DECIMAL, start=1)


def _plain_characters(cmap: str) -> str:
    """A font's map to Unicode, with the letters themselves for ligatures and the joined forms of Arabic."""
    pairs: dict[str, str] = {}
    for section in re.findall(r"beginbfchar\n(.*?)endbfchar", cmap, re.DOTALL):
        pairs.update(re.findall(r"<(\w+)> <(\w+)>", section))
    for section in re.findall(r"beginbfrange\n(.*?)endbfrange", cmap, re.DOTALL):
        for first, last, start in re.findall(r"<(\w+)> <(\w+)> <(\w+)>", section):
            for step in range(int(last, 16) - int(first, 16) + 1):
                pairs[f"{int(first, 16) + step:04X}"] = f"{int(start, 16) + step:0{len(start)}X}"
    rows = [f"<{glyph}> <{_plain_letter(text)}>" for glyph, text in sorted(pairs.items())]
    blocks = [rows[at : at + 100] for at in range(0, len(rows), 100)]
    body = "".join(f"{len(block)} beginbfchar\n" + "\n".join(block) + "\nendbfchar\n" for block in blocks)
    head, _, rest = cmap.partition("endcodespacerange\n")
    return f"{head}endcodespacerange\n{body}{rest[rest.index('endcmap') :]}"


def _plain_letter(text: str) -> str:
    """UTF-16 in hexadecimal to the same, with joined forms and ligatures replaced by the letters themselves.

    Ligatures of right-to-left letters stay: readers turn the order of what a page shows from left to right, and would
    turn the letters of a ligature, too.
    """
    letters = bytes.fromhex(text).decode("utf-16-be", "replace")
    if len(letters) == 1 and (0xFB00 <= ord(letters) <= 0xFDFF or 0xFE70 <= ord(letters) <= 0xFEFC):
        plain = unicodedata.normalize("NFKC", letters)
        if len(plain) == 1 or ord(letters) < 0xFB1D:
            letters = plain
    return letters.encode("utf-16-be").hex().upper()
