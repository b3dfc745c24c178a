"""Text to lines: Unicode's line breaks (UAX 14), hyphenation, and the breaks that leave the lines most alike.

Lengths are in em, so one set of lines fits every size.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyphen import Pyphen

__all__ = ["Piece", "break_lines", "pieces", "plain"]

_SHY = "\u00ad"
_FEWEST_LETTERS = 3
"""Letters that a hyphen leaves on either line."""
_HYPHEN_COST = 0.3
"""What a hyphen costs, as a share of a line."""


@dataclass(frozen=True)
class Piece:
    """What is never broken: a word, a syllable or an ideograph."""

    text: str
    width: float
    space: str = ""
    """White space after it, if the line goes on."""
    hyphen: bool = False
    """The word goes on: a line that ends here ends with a hyphen."""
    must_break: bool = False
    """The author ended the line here."""


def plain(text: str) -> str:
    """Text with single spaces; the author's line ends stay."""
    lines = (re.sub(r"[ \t\f\v\r]+", " ", line).strip() for line in text.strip().split("\n"))
    return "\n".join(line for line in lines if line)


def pieces(text: str, language: str, width: Callable[[str], float]) -> list[Piece]:
    """The pieces of a text in reading order.

    Args:
        text: as `plain` leaves it.
        language: BCP 47; without a dictionary for it only the text's own soft hyphens count.
        width: the width of a string in em.
    """
    dictionary = _dictionary(language)
    found: list[Piece] = []
    for line in text.split("\n"):
        for unit in _units(line):
            word = unit.rstrip(" \u2003\u3000\u200b")
            syllables = list(_syllables(word, dictionary))
            found.extend(Piece(part, width(part), hyphen=True) for part in syllables[:-1])
            found.append(Piece(syllables[-1], width(syllables[-1]), space=unit[len(word) :]))
        found[-1] = Piece(found[-1].text, found[-1].width, must_break=True)
    return found


def _units(line: str) -> Iterator[str]:
    """What stands between line breaks; a word with soft hyphens, at which Unicode allows breaks, in one piece."""
    from uniseg.linebreak import line_break_units

    word = ""
    for unit in line_break_units(line):
        word += unit
        if not word.endswith(_SHY):
            yield word
            word = ""
    if word.strip(_SHY):
        yield word


def _syllables(word: str, dictionary: Pyphen | None) -> Iterator[str]:
    """The parts of a word between which a hyphen may stand."""
    if _SHY in word:
        yield from (part for part in word.split(_SHY) if part)
        return
    letters = re.search(r"[^\W\d_]{6,}", word)
    places: list[int] = []
    if dictionary is not None and letters:
        # A place with `data` changes the spelling (Hungarian asszonnyal: asz-szonnyal), so it stays whole.
        found = [p for p in dictionary.positions(letters[0]) if getattr(p, "data", None) is None]
        fits = range(_FEWEST_LETTERS, len(letters[0]) - _FEWEST_LETTERS + 1)
        places = [letters.start() + int(p) for p in found if int(p) in fits]
    for start, end in zip([0, *places], [*places, len(word)], strict=True):
        yield word[start:end]


@cache
def _dictionary(language: str) -> Pyphen | None:
    import pyphen

    name = pyphen.language_fallback(language.replace("-", "_"))
    return pyphen.Pyphen(lang=name) if name else None


def break_lines(
    parts: list[Piece], limit: float, space: float, hyphen: float, *, balanced: bool = True
) -> list[tuple[str, float]] | None:
    """The fewest lines of at most `limit` em; among them those that are most alike in length.

    Args:
        parts: at least one piece.
        limit: longest line in em.
        space, hyphen: width of a space and of a hyphen in em.
        balanced: whether the last line should be as long as the others.

    Returns:
        The lines with their widths in em, or None when a piece is wider than `limit`.
    """
    cost = [0.0] + [float("inf")] * len(parts)
    start_of = [0] * (len(parts) + 1)
    for start in range(len(parts)):
        if cost[start] == float("inf"):
            continue
        width = 0.0
        for end in range(start + 1, len(parts) + 1):
            part = parts[end - 1]
            width += part.width
            if width > limit:
                break
            last = end == len(parts)
            shown = width + (hyphen if part.hyphen and not last else 0.0)
            if shown <= limit:
                slack = 1 - shown / limit if balanced or not last else 0.0
                new = cost[start] + 1 + slack**2 + (_HYPHEN_COST if part.hyphen and not last else 0.0)
                if new < cost[end]:
                    cost[end], start_of[end] = new, start
            if part.must_break:
                break
            width += space * len(part.space)
    if cost[-1] == float("inf"):
        return None
    lines: list[tuple[str, float]] = []
    end = len(parts)
    while end:
        lines.append(_line(parts[start_of[end] : end], space, hyphen))
        end = start_of[end]
    return lines[::-1]


def _line(parts: list[Piece], space: float, hyphen: float) -> tuple[str, float]:
    text = "".join(part.text + part.space for part in parts[:-1]) + parts[-1].text
    width = sum(part.width for part in parts) + space * sum(len(part.space) for part in parts[:-1])
    return (f"{text}-", width + hyphen) if parts[-1].hyphen else (text, width)
