"""Pages of pictures: letters of any alphabet that a font here has, paragraphs, and what no font has."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFont

from anystory import page_layout
from anystory.page_layout import PAPER, below, beside, paragraph, text, unwritable

BOX = "\U000ffffd"


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"))


def ink(image: Image.Image) -> int:
    return int((pixels(image) < 128).sum())


def test_english_is_set_in_pillows_own_font():
    words = "A fox, 2 robots: 100 %!"
    line, font = text(words), ImageFont.load_default(13)
    assert line.width == int(font.getlength(words)) + 1
    assert not unwritable(words)


def test_other_letters_come_from_a_font_that_has_them():
    available = [name for name in page_layout._FONTS if page_layout._system_font(name, 13) is not None]
    if not available:
        pytest.skip("this machine has none of the fonts")
    assert not unwritable("José Ωmega Жук")
    letters = [pixels(text(letter, width=20)).tobytes() for letter in ("é", "Ω", "Ж", BOX)]
    assert len(set(letters)) == 4


def test_letters_that_no_font_has_are_told(monkeypatch):
    monkeypatch.setattr(page_layout, "_FONTS", ("no such font.ttf",))
    assert unwritable("a é é 漢 b\n") == "é漢"
    assert ink(text("漢")) > 0


def test_a_paragraph_breaks_between_words():
    words = "a striped blue fox with a red hat and a long striped scarf"
    narrow = paragraph(words, 120)
    assert narrow.width <= 121
    assert narrow.height == pytest.approx(4 * text("a").height, abs=text("a").height)
    assert paragraph(words, 2000).size == text(words).size
    assert paragraph("x" * 500, 120).width == 120
    assert paragraph("", 120).height == text("").height


def test_pieces_stand_beside_and_below_one_another():
    red, blue = Image.new("RGB", (4, 6), "red"), Image.new("RGB", (8, 2), "blue")
    row, column = beside([red, blue], gap=2, align=1), below([red, blue], gap=2, align=1)
    assert (row.size, column.size) == ((14, 6), (8, 10))
    assert row.getpixel((6, 5)) == (0, 0, 255)
    assert row.getpixel((6, 3)) == PAPER
    assert column.getpixel((4, 0)) == (255, 0, 0)
    assert column.getpixel((3, 0)) == PAPER
