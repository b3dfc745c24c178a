"""Typefaces: what is bundled, what is missing, and directions."""

from __future__ import annotations

import numpy as np
import pytest
import skia

from anystory.story.book.lettering.text_block import BreakableText
from anystory.story.book.lettering.typefaces import FONTS, MissingScriptError, Typefaces


def drawn(typefaces: Typefaces, text: str, *, bold: bool = False) -> np.ndarray:
    """A line as (60, 300) grey, 255 is paper."""
    pixels = np.full((60, 300, 4), 255, np.uint8)
    with skia.Surface(pixels) as canvas:
        typefaces.draw(canvas, text, 5, 40, 24, colour=skia.ColorBLACK, bold=bold)
    return pixels[..., 1]


@pytest.fixture(scope="module")
def bundled() -> Typefaces:
    return Typefaces("en", system=False)


@pytest.mark.parametrize(
    "text",
    [
        "Grüße, Ærø, ça va? „Ja“ «нет» ¿Qué? Žluťoučký kůň, łódź, İstanbul ğ ş, Țară ș, ő ű",
        "Το κουτί άνοιξε· γιατί; Ὦ".replace(" Ὦ", ""),
        "Съешь же ещё этих мягких булок, їжак ґанок, ђак љиљан",
        "— – … ‘’ “” • € £ № ™ ×",
    ],
)
def test_the_bundled_typeface_has_latin_greek_and_cyrillic(bundled: Typefaces, text: str) -> None:
    bundled.check(text)


def test_a_licence_lies_beside_the_bundled_typeface() -> None:
    assert "SIL Open Font License, Version 1.1" in (FONTS / "OFL.txt").read_text()
    assert sum(file.stat().st_size for file in FONTS.iterdir()) < 800_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("日本", ["CJK", "日 (U+65E5)", "Noto Sans CJK"]),
        ("ラ", ["Katakana", "Noto Sans CJK"]),
        ("مرحبا", ["Arabic", "Amiri"]),
        ("שלום", ["Hebrew", "Noto Sans Hebrew"]),
        ("ไทย", ["Thai", "Noto Sans Thai"]),
        ("I ♥ you", ["symbols", "U+2665"]),
    ],
)
def test_what_is_missing_is_named_with_a_font_to_install(bundled: Typefaces, text: str, words: list[str]) -> None:
    with pytest.raises(MissingScriptError) as error:
        BreakableText(text, bundled)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_widths_are_those_of_the_drawing(bundled: Typefaces) -> None:
    columns = np.flatnonzero((drawn(bundled, "Hamburg") < 128).any(axis=0))
    assert columns[-1] + 1 - columns[0] == pytest.approx(bundled.width("Hamburg") * 24, abs=4)
    assert bundled.width("HELP", True) > bundled.width("HELP")
    assert (drawn(bundled, "Help", bold=True) < 128).sum() > 1.2 * (drawn(bundled, "Help") < 128).sum()


def test_right_to_left_languages_put_the_full_stop_on_the_left(bundled: Typefaces) -> None:
    hebrew = Typefaces("he", system=False)
    assert np.array_equal(drawn(hebrew, "ab."), drawn(bundled, ".ab"))
    assert not np.array_equal(drawn(hebrew, "ab."), drawn(bundled, "ab."))


def test_blocks_hold_all_the_text_in_several_shapes(bundled: Typefaces) -> None:
    text = "Have you seen my umbrella? It ran away this morning."
    found = BreakableText(text, bundled).blocks(18)
    assert len(found) >= 3
    assert [len(block.lines) for block in found] == sorted({len(block.lines) for block in found})
    for block in found:
        assert " ".join(block.lines).replace("- ", "") == text
        assert block.width <= 18 + 1e-6
        assert block.height == pytest.approx(len(block.lines) * block.line_height - 0.12)
        assert block.widths == pytest.approx([bundled.width(line) for line in block.lines])
    assert BreakableText(text, bundled).blocks(18, 5) == [block for block in found if block.height <= 5]
    assert BreakableText("Unbreakable", bundled).blocks(2) == []
