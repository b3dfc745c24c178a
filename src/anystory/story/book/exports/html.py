"""One HTML file that is the whole book: it needs no network, and works with keyboard, touch and screen readers.

Without scripts the pages stand below one another.
"""

from __future__ import annotations

import base64
import json
from html import escape
from pathlib import Path

from anystory.story.book.exports.reader_words import ReaderWords, reader_words
from anystory.story.book.exports.svg import page_svg
from anystory.story.book.exports.transcript import spoken_words
from anystory.story.book.pages.page import LaidOutBook, Page, PanelOnPage
from anystory.story.book.painting import jpeg, panel_picture
from anystory.version import __version__

__all__ = ["write_html"]

_ASSETS = Path(__file__).parent / "assets"
_BAR = """<nav class="bar" lang="{language}" aria-label="{words.reading}">
<button id="{first}" type="button" title="{first_title}" aria-label="{first_title}">◀</button>
<output id="where" aria-live="polite"></output>
<button id="{second}" type="button" title="{second_title}" aria-label="{second_title}">▶</button>
<button id="panels" type="button" title="{words.panel_by_panel} (p)">{words.panels}</button>
<button id="text" type="button" title="{words.show_text} (t)">{words.text}</button>
</nav>"""
_MARGIN = 5.0
"""Points around a panel that is shown alone."""


def write_html(laid_out: LaidOutBook, path: Path, dpi: float) -> None:
    """Write the book as one HTML file with pictures at `dpi` pixels per inch."""
    book = laid_out.book
    code, words = reader_words(book.language)
    pages = "\n".join(_page(laid_out, page, dpi, words) for page in laid_out.pages)
    buttons = [("earlier", words.earlier), ("later", words.later)]
    first, second = reversed(buttons) if laid_out.right_to_left else buttons
    titles = {"first": first[0], "first_title": first[1], "second": second[0], "second_title": second[1]}
    bar = _BAR.format(language=code, words=words, **titles)
    language = escape(book.language)
    reading = "rtl" if laid_out.right_to_left else "ltr"
    author = f'<meta name="author" content="{escape(book.author)}">\n' if book.author else ""
    path.write_text(
        f'<!DOCTYPE html>\n<html lang="{language}" data-reading="{reading}">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{escape(book.title)}</title>\n{author}"
        '<meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover">\n'
        f'<meta name="generator" content="AnyStory {__version__}">\n'
        f"<style>\n{_asset('reader.css')}</style>\n</head>\n<body>\n<main>\n<h1>{escape(book.title)}</h1>\n"
        f"{pages}\n</main>\n{bar}\n<script>\n{_asset('reader.js')}</script>\n</body>\n</html>\n",
        encoding="utf-8",
        newline="\n",
    )


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _page(laid_out: LaidOutBook, page: Page, dpi: float, own: ReaderWords) -> str:
    def picture(on_page: PanelOnPage) -> str:
        content = jpeg(panel_picture(on_page, dpi / 72))
        return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")

    frames = [
        [round(number, 2) for number in (x - _MARGIN, y - _MARGIN, width + 2 * _MARGIN, height + 2 * _MARGIN)]
        for x, y, width, height in (on_page.frame for on_page in page.panels)
    ]
    cover = page.label == "Cover"
    label = escape(own.cover if cover else f"{own.page} {page.label}")
    direction = "rtl" if laid_out.typefaces.right_to_left else "ltr"
    words = "\n".join(
        f'<p class="{spoken.kind}">{f"<b>{escape(spoken.name)}:</b> " if spoken.name else ""}{escape(spoken.text)}</p>'
        for spoken in spoken_words(page)
    )
    return (
        f'<section class="page" aria-label="{label}" data-label="{escape(own.cover if cover else page.label)}" '
        f"{'data-cover ' if cover else ''}"
        f'data-frames="{json.dumps(frames, separators=(",", ":"))}">\n'
        f'{page_svg(laid_out, page, picture)}\n<div class="words" dir="{direction}">\n{words}\n</div>\n</section>'
    )
