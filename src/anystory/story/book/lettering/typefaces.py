"""Typefaces for any script: a bundled one for Latin, Greek and Cyrillic, the system's for the rest.

skia's paragraphs (HarfBuzz and ICU) shape each line: ligatures, joined letters, mixed directions. Lengths are in em,
the size of the letters, so that one measurement holds for every size.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import skia

from anystory.story.book.contents import is_right_to_left

__all__ = ["MissingScriptError", "Typefaces"]

FONTS = Path(__file__).parent / "fonts"
_BUNDLED = ("ComicRelief-Regular.ttf", "ComicRelief-Bold.ttf")
_FAMILY = "lettering"
_UNIT = 100.0
"""Size at which text is shaped. Drawing scales the canvas, so all sizes and outputs break alike."""
_ISOLATE = {False: "\u2066", True: "\u2067"}
"""LRI and RLI: skia-python cannot set a paragraph's direction, but an isolate does the same for one line."""
_HARMLESS = {"Cc", "Cf", "Zs", "Zl", "Zp"}
_ADVICE = {
    "CJK": "Noto Sans CJK",
    "HIRAGANA": "Noto Sans CJK",
    "KATAKANA": "Noto Sans CJK",
    "KATAKANA-HIRAGANA": "Noto Sans CJK",
    "IDEOGRAPHIC": "Noto Sans CJK",
    "FULLWIDTH": "Noto Sans CJK",
    "BOPOMOFO": "Noto Sans CJK",
    "HANGUL": "Noto Sans CJK",
    "ARABIC": "Noto Naskh Arabic or Amiri",
    "HEBREW": "Noto Sans Hebrew or DejaVu Sans",
}
_SYMBOLS = "Noto Sans Symbols 2, Noto Emoji or DejaVu Sans"


class MissingScriptError(ValueError):
    """No installed font has a character; the message names the script and a font to install."""


class Extent(NamedTuple):
    """How far a line's letters reach, in em."""

    ascent: float
    descent: float


class Typefaces:
    """Measures and draws lines of text of one language.

    Args:
        language: BCP 47. It chooses among the forms of shared characters and gives lines their direction.
        system: Whether the system's fonts may be used; tests without them say False.
    """

    def __init__(self, language: str = "en", *, system: bool = True) -> None:
        self.language = language
        self.right_to_left = is_right_to_left(language)
        self._system = skia.FontMgr() if system else None
        self._provider = skia.textlayout.TypefaceFontProvider()
        self._bundled = [skia.Typeface.MakeFromFile(str(FONTS / name)) for name in _BUNDLED]
        for typeface in self._bundled:
            self._provider.registerTypeface(typeface, _FAMILY)
        self._fallbacks: dict[str, skia.Typeface] = {}
        self._collection = skia.textlayout.FontCollection()
        self._collection.setDefaultFontManager(self._provider)
        self._unicode = skia.Unicodes.ICU.Make()
        self.width = lru_cache(maxsize=4096)(self._width)

    def check(self, text: str) -> None:
        """Find a typeface for every character.

        Raises:
            MissingScriptError: there is none; the message names the script, and a font to install.
        """
        missing = [char for char in dict.fromkeys(text) if not self._has(char)]
        if not missing:
            return
        script = unicodedata.name(missing[0], "UNKNOWN").split()[0]
        if unicodedata.category(missing[0]).startswith("S"):
            what, advice = "symbols", _SYMBOLS
        else:
            what = script if script == "CJK" else script.capitalize()
            advice = _ADVICE.get(script, f"Noto Sans {script.capitalize()}")
        shown = " ".join(f"{char} (U+{ord(char):04X})" for char in missing[:3])
        raise MissingScriptError(
            f"no installed font has the {what} characters {shown}: install a font for them, for example {advice}"
        )

    def _has(self, char: str) -> bool:
        if unicodedata.category(char) in _HARMLESS or self._bundled[0].unicharToGlyph(ord(char)):
            return True
        if any(typeface.unicharToGlyph(ord(char)) for typeface in self._fallbacks.values()):
            return True
        if unicodedata.category(char) == "Mn" and 0xFE00 <= ord(char) <= 0xFE0F:  # variation selectors
            return True
        if self._system is None:
            return False
        found = self._system.matchFamilyStyleCharacter("", skia.FontStyle(), [self.language], ord(char))
        if found is None or not found.unicharToGlyph(ord(char)):
            return False
        name = f"{_FAMILY} {len(self._fallbacks) + 1}"
        self._fallbacks[name] = found
        self._provider.registerTypeface(found, name)
        return True

    def _width(self, text: str, bold: bool = False) -> float:
        """Width of a line in em."""
        return self._paragraph(text, skia.ColorBLACK, bold).LongestLine / _UNIT

    def extent(self, text: str) -> Extent:
        """Ascent and descent of a line in em, over the typefaces that draw it."""
        foreign = [ord(char) for char in text if not self._bundled[0].unicharToGlyph(ord(char))]
        used = [face for face in self._fallbacks.values() if any(face.unicharToGlyph(char) for char in foreign)]
        metrics = [self._metrics(typeface) for typeface in (self._bundled[0], *used)]
        return Extent(max(m.ascent for m in metrics), max(m.descent for m in metrics))

    @staticmethod
    def _metrics(typeface: skia.Typeface) -> Extent:
        found = skia.Font(typeface, _UNIT).getMetrics()
        return Extent(min(-found.fAscent / _UNIT, 1.25), min(found.fDescent / _UNIT, 0.45))

    def draw(
        self, canvas: skia.Canvas, text: str, x: float, baseline: float, size: float, *, colour: int, bold: bool = False
    ) -> None:
        """Draw a line with its left end at `x`, in the canvas's units; `size` is the em in those units."""
        paragraph = self._paragraph(text, colour, bold)
        canvas.save()
        canvas.translate(x, baseline)
        canvas.scale(size / _UNIT, size / _UNIT)
        paragraph.paint(canvas, 0, -paragraph.AlphabeticBaseline)
        canvas.restore()

    def _paragraph(self, text: str, colour: int, bold: bool) -> skia.textlayout.Paragraph:
        style = skia.textlayout.TextStyle()
        style.setFontSize(_UNIT)
        style.setFontFamilies([_FAMILY, *self._fallbacks])
        style.setFontStyle(skia.FontStyle.Bold() if bold else skia.FontStyle.Normal())
        style.setColor(colour)
        style.setLocale(self.language)
        builder = skia.textlayout.ParagraphBuilder.make(
            skia.textlayout.ParagraphStyle(), self._collection, self._unicode
        )
        builder.pushStyle(style)
        builder.addText(f"{_ISOLATE[self.right_to_left]}{text}\u2069")
        paragraph = builder.Build()
        paragraph.layout(1e6)
        return paragraph
