"""Paints pages with skia: on pixels, into a PDF, or as SVG. Units are points."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import skia
from PIL import Image

from anystory.story.book.lettering.balloons import outline, padding_of
from anystory.story.book.lettering.placing import PlacedWords
from anystory.story.book.lettering.typefaces import Typefaces
from anystory.story.book.pages.page import Page, PanelOnPage

__all__ = ["as_skia_jpeg", "baselines", "jpeg", "paint_page", "paint_words", "panel_picture", "png", "rasterise"]

INK, PAPER = 0xFF201C26, 0xFFFFFFFF
_FILL = {"caption": 0xFFFFF6D8}
_LINE = 1.1
"""Width of a balloon's outline in points."""
_FRAME = 1.2
_TINT = 0.16
"""How much of its colour a balloon has."""
_DASH = (3.2, 2.2)
_JPEG_QUALITY = 94


def panel_picture(on_page: PanelOnPage, pixels_per_point: float) -> Image.Image:
    """What a frame shows, at the page's resolution (Lanczos)."""
    window, frame = on_page.window, on_page.frame
    size = max(round(frame.width * pixels_per_point), 1), max(round(frame.height * pixels_per_point), 1)
    box = (window.x, window.y, window.right, window.bottom)
    return on_page.panel.picture.convert("RGB").resize(size, Image.Resampling.LANCZOS, box=box)


def paint_page(
    canvas: skia.Canvas,
    page: Page,
    typefaces: Typefaces,
    picture: Callable[[PanelOnPage], skia.Image],
    *,
    layered: bool = False,
) -> None:
    """Paint a whole page on a canvas whose unit is a point.

    Args:
        canvas: what is painted on.
        page: the page.
        typefaces: what its words are written in.
        picture: gives what a frame shows.
        layered: whether each picture and each line of text is a layer of its own: in a PDF, an object to be tagged.
    """
    canvas.drawRect(skia.Rect.MakeWH(page.width, page.height), skia.Paint(Color=PAPER))
    for on_page in page.panels:
        frame = skia.Rect.MakeXYWH(*on_page.frame)
        with _layer(canvas, layered):
            canvas.drawImageRect(picture(on_page), frame, skia.SamplingOptions(skia.FilterMode.kLinear))
        border = skia.Paint(Style=skia.Paint.kStroke_Style, StrokeWidth=_FRAME, Color=INK, AntiAlias=True)
        canvas.drawRect(frame, border)
        paint_words(canvas, on_page.words, typefaces, layered=layered)
    paint_words(canvas, page.words, typefaces, layered=layered)


def paint_words(
    canvas: skia.Canvas, words: Sequence[PlacedWords], typefaces: Typefaces, *, layered: bool = False
) -> None:
    """Paint balloons and captions with their text; `layered` as for `paint_page`."""
    for placed in words:
        _paint_outline(canvas, placed)
    for placed in words:
        for line, x, y in baselines(placed, right_to_left=typefaces.right_to_left):
            with _layer(canvas, layered):
                typefaces.draw(canvas, line, x, y, placed.size, colour=INK, bold=placed.block.bold)


@contextmanager
def _layer(canvas: skia.Canvas, wanted: bool) -> Iterator[None]:
    if wanted:
        canvas.saveLayer()
    yield
    if wanted:
        canvas.restore()


def _paint_outline(canvas: skia.Canvas, placed: PlacedWords) -> None:
    """Stroke all parts, then fill all parts: the line that stays is the outline of their union."""
    parts = outline(placed.shape, placed.box, placed.size, placed.tip)
    stroke = skia.Paint(
        Style=skia.Paint.kStroke_Style,
        StrokeWidth=2 * _LINE,
        Color=INK,
        AntiAlias=True,
        StrokeJoin=skia.Paint.kRound_Join if placed.shape != "shout" else skia.Paint.kMiter_Join,
    )
    if placed.shape == "whisper":
        stroke.setPathEffect(skia.DashPathEffect.Make(_DASH, 0.0))
    fill = skia.Paint(Color=_fill(placed), AntiAlias=True)
    for paint in (stroke, fill):
        for part in parts:
            canvas.drawPath(part, paint)


def _fill(placed: PlacedWords) -> int:
    """What a balloon is filled with: white, or a light tint of its colour."""
    if placed.colour is None:
        return _FILL.get(placed.shape, PAPER)
    red, green, blue = bytes.fromhex(placed.colour[1:])
    return skia.Color(*(round(255 - _TINT * (255 - part)) for part in (red, green, blue)))


def baselines(placed: PlacedWords, *, right_to_left: bool) -> list[tuple[str, float, float]]:
    """Each line of placed text with its left end and its baseline: (text, x, y) in points."""
    block, size, box = placed.block, placed.size, placed.box
    top = box.centre[1] - block.height * size / 2
    found = []
    for row, (line, width) in enumerate(zip(block.lines, block.widths, strict=True)):
        if placed.shape != "caption":
            x = box.centre[0] - width * size / 2
        elif right_to_left:
            x = box.right - padding_of("caption", size) - width * size
        else:
            x = box.x + padding_of("caption", size)
        found.append((line, x, top + (row * block.line_height + block.ascent) * size))
    return found


def rasterise(page: Page, typefaces: Typefaces, dpi: float) -> Image.Image:
    """A page as an RGB picture.

    Args:
        dpi: pixels per inch.
    """
    scale = dpi / 72
    width, height = round(page.width * scale), round(page.height * scale)
    pixels = np.zeros((height, width, 4), np.uint8)
    with skia.Surface(pixels) as canvas:
        canvas.scale(scale, scale)
        paint_page(canvas, page, typefaces, lambda panel: as_skia(panel_picture(panel, scale)))
    return Image.fromarray(pixels[..., :3].copy())


def jpeg(picture: Image.Image) -> bytes:
    """A picture as a JPEG file of high quality."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def png(picture: Image.Image, dpi: float) -> bytes:
    """A picture as a PNG file that knows its resolution."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", dpi=(dpi, dpi), compress_level=4)
    return buffer.getvalue()


def as_skia_jpeg(picture: Image.Image) -> skia.Image:
    """A PIL picture as a JPEG, which skia puts into a PDF as it is."""
    return skia.Image.MakeFromEncoded(skia.Data.MakeWithCopy(jpeg(picture)))


def as_skia(picture: Image.Image) -> skia.Image:
    """A PIL picture as skia's, opaque."""
    return skia.Image.fromarray(np.array(picture.convert("RGBA")))
