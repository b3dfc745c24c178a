"""The HTML reader."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image

from anystory.story.book.exports.html import write_html

_EMPTY = {"meta", "link", "image", "rect", "path", "circle", "ellipse"}


class _Reader(HTMLParser):
    """Sections, addresses and paragraphs; whether all that opens closes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.sections: list[dict] = []
        self.paragraphs: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        found = dict(attrs)
        self.addresses += [found[name] for name in ("src", "href", "xlink:href") if name in found]
        self.ids += [found["id"]] if "id" in found else []
        if tag == "section":
            self.sections.append(found)
        if tag == "p":
            self.paragraphs.append("")
        if tag not in _EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _EMPTY:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "p" in self.open:
            self.paragraphs[-1] += data


def test_one_file_with_everything_in_it(laid_out, tmp_path) -> None:
    path = tmp_path / "book.html"
    write_html(laid_out, path, 40)
    text = path.read_text("utf-8")
    reader = _Reader()
    reader.feed(text)
    assert reader.open == []
    assert len(reader.addresses) == sum(len(page.panels) for page in laid_out.pages)
    for address in reader.addresses:
        kind, _, content = address.partition(",")
        assert kind == "data:image/jpeg;base64"
        Image.open(io.BytesIO(base64.b64decode(content))).load()
    outside = re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", text).replace("http://www.w3.org/2000/svg", "")
    assert "http" not in outside
    assert "url(" not in outside
    assert "@import" not in outside
    assert [section["data-label"] for section in reader.sections] == ["Cover", "1", "2"]
    frames = [json.loads(section["data-frames"]) for section in reader.sections]
    assert [len(one) for one in frames] == [len(page.panels) for page in laid_out.pages]
    assert frames[1][0][2] == round(laid_out.pages[1].panels[0].frame.width + 10, 2)
    assert reader.paragraphs[-3:] == ["Fox & robot 3", "Rob <1>: HELP & RUN!", "Off stage"]
    assert len(reader.ids) == len(set(reader.ids))
    write_html(laid_out, tmp_path / "again.html", 40)
    assert (tmp_path / "again.html").read_bytes() == path.read_bytes()


def test_from_right_to_left_onward_is_on_the_left(backwards, tmp_path) -> None:
    write_html(backwards, tmp_path / "book.html", 36)
    text = (tmp_path / "book.html").read_text("utf-8")
    assert '<html lang="he" data-reading="rtl">' in text
    assert text.index('id="later"') < text.index('id="earlier"')
    assert '<div class="words" dir="rtl">' in text


@pytest.mark.parametrize(
    ("language", "bar", "cover", "onward"),
    [
        ("de-AT", "de", "Umschlag", "Weiter"),
        ("fr", "fr", "Couverture", "Suivant"),
        ("es_MX", "es", "Portada", "Siguiente"),
        ("nl", "en", "Cover", "Later"),
    ],
)
def test_the_buttons_speak_the_books_language_or_english(laid_out, tmp_path, language, bar, cover, onward) -> None:
    book = replace(laid_out, book=replace(laid_out.book, language=language))
    write_html(book, tmp_path / "book.html", 20)
    text = (tmp_path / "book.html").read_text("utf-8")
    assert f'<nav class="bar" lang="{bar}"' in text
    assert f'<button id="later" type="button" title="{onward}"' in text
    reader = _Reader()
    reader.feed(text)
    assert reader.sections[0]["aria-label"] == cover
    assert ["data-cover" in section for section in reader.sections] == [True, False, False]
