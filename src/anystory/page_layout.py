"""Pages of pictures with captions: pieces are PIL images that are put beside and below one another."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from PIL import Image, ImageDraw, ImageFont

__all__ = ["INK", "PAPER", "below", "beside", "captioned", "framed", "paragraph", "text", "unwritable"]

PAPER = (255, 255, 255)
INK = (40, 40, 48)

_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "arial.ttf",
    "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc",
    "YuGothR.ttc",
    "Hiragino Sans GB.ttc",
    "unifont.ttf",
)
"""Fonts of the system for what Pillow's own has no letters for: it has those of English only."""


def text(line: str, *, size: int = 13, width: int | None = None, colour: tuple[int, int, int] = INK) -> Image.Image:
    """One line of text; with `width`, centred on that many pixels and shortened with "…" until it fits."""
    font = _font(line, size)
    shown = line
    while width is not None and len(shown) > 1 and font.getlength(shown) > width:
        shown = shown.removesuffix("…")[:-1].rstrip() + "…"
    image = Image.new("RGB", (width or max(int(font.getlength(shown)) + 1, 1), size + 6), PAPER)
    left = 0 if width is None else (width - font.getlength(shown)) / 2
    ImageDraw.Draw(image).text((left, 1), shown, fill=colour, font=font)
    return image


def paragraph(words: str, width: int, *, size: int = 13) -> Image.Image:
    """A text in lines of at most `width` pixels, broken between words; what is longer than a line is shortened."""
    font, lines = _font(words, size), [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return below(
        [text(line, size=size, width=width if font.getlength(line) > width else None) for line in lines], gap=0
    )


def unwritable(words: str) -> str:
    """The letters of a text that no font here has: they are drawn as boxes."""
    return "".join(dict.fromkeys(letter for letter in words if _lacks(_font(letter, 13), letter)))


def _font(words: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, or the first that has more of a text's letters."""
    own = ImageFont.load_default(size)
    missing = [letter for letter in dict.fromkeys(words) if _lacks(own, letter)]
    if not missing:
        return own
    others = [font for name in _FONTS if (font := _system_font(name, size)) is not None]
    return min([own, *others], key=lambda font: sum(_lacks(font, letter) for letter in missing))


@cache
def _system_font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def _lacks(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, letter: str) -> bool:
    """Whether a font draws a letter as it draws what is none."""
    return not letter.isspace() and _drawn(font, letter) == _drawn(font, "\U000ffffd")


def _drawn(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, letter: str) -> bytes:
    image = Image.new("1", (32, 32))
    ImageDraw.Draw(image).text((4, 4), letter, fill=1, font=font)
    return image.tobytes()


def beside(pieces: Sequence[Image.Image], *, gap: int = 6, align: float = 0.0) -> Image.Image:
    """Pieces in a row. `align` 0 puts their tops on a line, 1 their bottoms."""
    height = max(piece.height for piece in pieces)
    row = Image.new("RGB", (sum(piece.width for piece in pieces) + gap * (len(pieces) - 1), height), PAPER)
    x = 0
    for piece in pieces:
        row.paste(piece, (x, round((height - piece.height) * align)))
        x += piece.width + gap
    return row


def below(pieces: Sequence[Image.Image], *, gap: int = 6, align: float = 0.0) -> Image.Image:
    """Pieces in a column. `align` 0 puts their left sides on a line, 1 their right sides."""
    width = max(piece.width for piece in pieces)
    column = Image.new("RGB", (width, sum(piece.height for piece in pieces) + gap * (len(pieces) - 1)), PAPER)
    y = 0
    for piece in pieces:
        column.paste(piece, (round((width - piece.width) * align), y))
        y += piece.height + gap
    return column


def captioned(image: Image.Image, *lines: str, size: int = 12) -> Image.Image:
    """A picture with lines of text centred below it."""
    return below([image, *(text(line, size=size, width=image.width) for line in lines)], gap=2)


def framed(page: Image.Image, margin: int = 16) -> Image.Image:
    """A page with a margin on all sides."""
    image = Image.new("RGB", (page.width + 2 * margin, page.height + 2 * margin), PAPER)
    image.paste(page, (margin, margin))
    return image
