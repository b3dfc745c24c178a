"""A text broken into lines, in all the shapes that it may take. Lengths are in em."""

from __future__ import annotations

import math
from dataclasses import dataclass

from anystory.story.book.lettering.line_breaking import break_lines, pieces, plain
from anystory.story.book.lettering.typefaces import Typefaces

__all__ = ["BreakableText", "TextBlock"]

LEADING = 0.12
"""Space between lines, in em."""
_WIDTHS = 14
"""How many widths are tried."""


@dataclass(frozen=True)
class TextBlock:
    """Lines of text, one below the other."""

    lines: tuple[str, ...]
    widths: tuple[float, ...]
    """Of each line, in em."""
    ascent: float
    descent: float
    bold: bool = False

    @property
    def width(self) -> float:
        """Of the longest line, in em."""
        return max(self.widths)

    @property
    def line_height(self) -> float:
        """From baseline to baseline, in em."""
        return self.ascent + self.descent + LEADING

    @property
    def height(self) -> float:
        """Of all lines, in em."""
        return self.line_height * len(self.lines) - LEADING


class BreakableText:
    """A text that is measured once and broken many times.

    Args:
        text: what is lettered.
        typefaces: in what.
        bold: whether in bold letters.
        balanced: whether the last line should be as long as the others.

    Raises:
        MissingScriptError: no installed font has a character.
    """

    def __init__(self, text: str, typefaces: Typefaces, *, bold: bool = False, balanced: bool = True) -> None:
        typefaces.check(text)

        def width(line: str) -> float:
            return typefaces.width(line, bold)

        self._parts = pieces(plain(text), typefaces.language, width)
        self._space, self._hyphen = width("a a") - 2 * width("a"), width("-")
        self._narrowest = max(part.width + (self._hyphen if part.hyphen else 0) for part in self._parts)
        self._total = sum(part.width + self._space * len(part.space) for part in self._parts)
        self._extent = typefaces.extent(text)
        self._bold, self._balanced = bold, balanced

    def blocks(self, longest: float, tallest: float = math.inf) -> list[TextBlock]:
        """The ways to break the text into lines of at most `longest` em, fewest lines first.

        There is one for each number of lines. Empty when a word is wider than `longest` even if it is hyphenated, or
        when all ways are higher than `tallest`.
        """
        fewest: dict[int, TextBlock] = {}
        for step in range(_WIDTHS):
            limit = longest + (self._narrowest - longest) * step / (_WIDTHS - 1)
            if self._narrowest > longest or self._total / limit * sum(self._extent) > tallest:
                break
            block = self._block(limit)
            if block.height <= tallest:
                best = fewest.setdefault(len(block.lines), block)
                fewest[len(block.lines)] = min(best, block, key=lambda block: block.width)
        return [fewest[count] for count in sorted(fewest)]

    def _block(self, limit: float) -> TextBlock:
        limit *= 1 + 1e-9  # the narrowest piece itself must fit
        lines = break_lines(self._parts, limit, self._space, self._hyphen, balanced=self._balanced)
        assert lines is not None, "the limit is not below the widest piece"
        texts, widths = zip(*lines, strict=True)
        return TextBlock(texts, widths, *self._extent, self._bold)
