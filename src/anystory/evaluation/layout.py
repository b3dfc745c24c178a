"""Pages of pictures with captions: pieces are PIL images that are put beside and below one another."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

__all__ = ["INK", "PAPER", "below", "beside", "captioned", "framed", "text"]

PAPER = (255, 255, 255)
INK = (40, 40, 48)


def text(line: str, *, size: int = 13, width: int | None = None, colour: tuple[int, int, int] = INK) -> Image.Image:
    """One line of text; with `width`, centred on that many pixels and shortened with "…" until it fits."""
    font = ImageFont.load_default(size)
    shown = line
    while width is not None and len(shown) > 1 and font.getlength(shown) > width:
        shown = shown.removesuffix("…")[:-1].rstrip() + "…"
    image = Image.new("RGB", (width or max(int(font.getlength(shown)) + 1, 1), size + 6), PAPER)
    left = 0 if width is None else (width - font.getlength(shown)) / 2
    ImageDraw.Draw(image).text((left, 1), shown, fill=colour, font=font)
    return image


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
