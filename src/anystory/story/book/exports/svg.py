"""Pages as SVG for e-books and browsers: pictures, balloons and letters as outlines, and the words as text over them.

Outlines look the same everywhere, whatever fonts a reader has. The text over them is transparent: it can be selected,
copied and searched.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape

import skia

from anystory.story.book.lettering.placing import PlacedWords
from anystory.story.book.pages.page import LaidOutBook, Page, PanelOnPage
from anystory.story.book.painting import INK, baselines, paint_words

__all__ = ["page_svg"]


def page_svg(laid_out: LaidOutBook, page: Page, picture: Callable[[PanelOnPage], str]) -> str:
    """A page as an `<svg>` element whose unit is a point.

    Args:
        laid_out: the book.
        page: one of its pages.
        picture: gives the address of what a frame shows, at any resolution.
    """
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_short(page.width)} {_short(page.height)}" '
        'aria-hidden="true">',
        f'<rect width="{_short(page.width)}" height="{_short(page.height)}" fill="#fff"/>',
    ]
    for on_page in page.panels:
        x, y, width, height = map(_short, on_page.frame)
        place = f'x="{x}" y="{y}" width="{width}" height="{height}"'
        parts.append(f'<image {place} preserveAspectRatio="none" href="{escape(picture(on_page))}"/>')
        parts.append(f'<rect {place} fill="none" stroke="#{INK & 0xFFFFFF:06x}" stroke-width="1.2"/>')
    words = [placed for on_page in page.panels for placed in on_page.words] + list(page.words)
    parts.append(_outlines(laid_out, page, words))
    parts.extend(_text(placed, laid_out.typefaces.right_to_left) for placed in words)
    return "".join([*parts, "</svg>"])


def _outlines(laid_out: LaidOutBook, page: Page, words: list[PlacedWords]) -> str:
    stream = skia.DynamicMemoryWStream()
    flags = skia.SVGCanvas.kConvertTextToPaths_Flag | skia.SVGCanvas.kNoPrettyXML_Flag
    canvas = skia.SVGCanvas.Make(skia.Rect.MakeWH(page.width, page.height), stream, flags)
    paint_words(canvas, words, laid_out.typefaces)
    del canvas  # it writes the end of the file
    written = bytes(stream.detachAsData()).decode("utf-8")
    inner = written[written.index(">", written.index("<svg")) + 1 : written.rindex("</svg>")] if words else ""
    return re.sub(r"\d+\.\d{2,}", lambda number: _short(float(number[0])), inner)


def _text(placed: PlacedWords, right_to_left: bool) -> str:
    """The lines of a balloon as transparent text, each as wide as its outlines are."""
    shown = []
    for (line, x, y), width in zip(baselines(placed, right_to_left=right_to_left), placed.block.widths, strict=True):
        start = x + width * placed.size if right_to_left else x
        shown.append(
            f'<text x="{_short(start)}" y="{_short(y)}" font-size="{_short(placed.size)}" '
            f'textLength="{_short(width * placed.size)}" lengthAdjust="spacingAndGlyphs" fill="transparent"'
            f"{' direction=' + chr(34) + 'rtl' + chr(34) if right_to_left else ''}>{escape(line)}</text>"
        )
    return "".join(shown)


def _short(number: float) -> str:
    """Two decimals at most: a two-hundredth of a point cannot be seen."""
    return f"{number:.2f}".rstrip("0").rstrip(".")
