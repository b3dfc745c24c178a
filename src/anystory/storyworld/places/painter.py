"""The drawing kit of places: toned shapes, skies, and a few things that many places share.

Everything is in the unit square of the picture: (0, 0) top-left, (1, 1) bottom-right.
Colours are integers 0xRRGGBB as they look by day; :func:`tone` turns them into dusk and night.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import skia

from anystory.storyworld.brush import Brush
from anystory.storyworld.rng import Rng

LIGHTS = ("day", "dusk", "night")

_TINTS = {
    "outdoor": {"day": (1.0, 1.0, 1.0), "dusk": (0.98, 0.79, 0.76), "night": (0.42, 0.5, 0.66)},
    # Indoors a lamp burns in the evening, so walls keep more of their own colour.
    "indoor": {"day": (1.0, 1.0, 1.0), "dusk": (1.0, 0.86, 0.78), "night": (0.64, 0.62, 0.82)},
}
_NIGHT_AIR = {"outdoor": (4, 12, 44), "indoor": (0, 0, 0)}
"""Added at night, so that pale things turn blue instead of grey."""
_SKIES = {"day": (0x86CDF4, 0xDDF2FA), "dusk": (0x7A62A8, 0xFFB984), "night": (0x16224F, 0x4B65A8)}

_BLEED = 0.03
"""How far full-width things reach beyond the picture."""

Point = tuple[float, float]
Part = tuple[skia.Path, int]


@lru_cache(maxsize=4096)
def tone(colour: int, light: str, where: str = "outdoor") -> int:
    """Return the 0xRRGGBB colour of a surface that is `colour` by day, under another light."""
    tint = _TINTS[where][light]
    channels = ((colour >> 16) & 255, (colour >> 8) & 255, colour & 255)
    air = _NIGHT_AIR[where] if light == "night" else (0, 0, 0)
    red, green, blue = (min(255, round(c * t) + a) for c, t, a in zip(channels, tint, air, strict=True))
    return red << 16 | green << 8 | blue


@lru_cache(maxsize=256)
def _vertical_gradient(y0: float, y1: float, colours: tuple[int, ...]) -> skia.Paint:
    shader = skia.GradientShader.MakeLinear([skia.Point(0, y0), skia.Point(0, y1)], [0xFF000000 | c for c in colours])
    return skia.Paint(Shader=shader)


@lru_cache(maxsize=256)
def _halo(colour: int, strength: float) -> skia.Paint:
    shader = skia.GradientShader.MakeRadial(skia.Point(0, 0), 1.0, [round(255 * strength) << 24 | colour, colour])
    return skia.Paint(Shader=shader)


@lru_cache(maxsize=1024)
def _veil(colour: int, alpha: float) -> skia.Paint:
    return skia.Paint(Color=round(255 * alpha) << 24 | colour, AntiAlias=True)


class PlacePainter:
    """One layer of a place while it is drawn: canvas, brush, light and the layer's random stream.

    Shapes go through the brush, so that they follow the drawing style and cut holes into
    instance masks where they cover a character. Gradients, halos and veils of light cover
    nobody, and are left out when the brush paints a mask.
    """

    def __init__(self, canvas: skia.Canvas, brush: Brush, light: str, rng: Rng, where: str = "outdoor"):
        self.canvas, self.brush, self.light, self.rng, self.where = canvas, brush, light, rng, where

    def path(self, path: skia.Path, colour: int, *, lit: bool = False, detail: bool = False) -> None:
        """Fill a path.

        `lit` things (sun, lamps, windows at night) keep their colour at night. A `detail` lies on a shape
        that is already drawn, and gets no outline or shadow of its own in styles that have them.
        """
        colour = colour if lit else tone(colour, self.light, self.where)
        if self.brush.outline and not detail:
            # One outline around the whole, not around each of the shapes that overlap in it.
            path = skia.Simplify(path)
        self.brush.path(self.canvas, path, colour, detail=detail)

    def rect(
        self, x0: float, y0: float, x1: float, y1: float, colour: int, *,
        radius: float = 0.0, lit: bool = False, detail: bool = False,
    ) -> None:  # fmt: skip
        """Fill the rectangle from (x0, y0) to (x1, y1), its corners rounded by `radius`."""
        colour = colour if lit else tone(colour, self.light, self.where)
        # What touches the edge of the picture goes on beyond it: no outline along the edge.
        x0, y0 = (x0 - _BLEED if x0 <= 0 else x0), (y0 - _BLEED if y0 <= 0 else y0)
        x1, y1 = (x1 + _BLEED if x1 >= 1 else x1), (y1 + _BLEED if y1 >= 1 else y1)
        self.brush.rect(self.canvas, x0, y0, x1, y1, colour, radius=radius, detail=detail)

    def oval(
        self, x: float, y: float, rx: float, ry: float, colour: int, *, lit: bool = False, detail: bool = False
    ) -> None:
        """Fill the ellipse around (x, y) with radii rx, ry."""
        colour = colour if lit else tone(colour, self.light, self.where)
        self.brush.oval(self.canvas, x, y, rx, ry, colour, detail=detail)

    def polygon(self, points: Sequence[Point], colour: int, *, lit: bool = False) -> None:
        """Fill a closed polygon."""
        self.path(polygon(points), colour, lit=lit)

    def stamp(
        self, parts: Sequence[Part], x: float, y: float, size: float, *, flip: bool = False, lit: bool = False
    ) -> None:
        """Draw a prepared object (paths around its own origin, in units of `size`) at (x, y)."""
        # The paths are moved, not the canvas: outlines and shadows keep one width in the whole picture.
        matrix = skia.Matrix.MakeAll(-size if flip else size, 0, x, 0, size, y, 0, 0, 1)
        for path, colour in parts:
            placed = skia.Path()
            path.transform(matrix, placed)
            self.path(placed, colour, lit=lit)

    def gradient(self, y0: float, y1: float, *colours: int, lit: bool = False) -> None:
        """Fill the full-width band y0..y1 with colours that blend downwards."""
        if self.brush.is_mask:
            return
        if not lit:
            colours = tuple(tone(c, self.light, self.where) for c in colours)
        colours = tuple(self.brush.colour(c) for c in colours)
        self.canvas.drawRect(skia.Rect(0, y0, 1, y1), _vertical_gradient(y0, y1, colours))

    def halo(self, x: float, y: float, radius: float, colour: int, strength: float = 0.5) -> None:
        """Add a soft round light around (x, y) that fades to nothing at `radius`."""
        if self.brush.is_mask:
            return
        with skia.AutoCanvasRestore(self.canvas):
            self.canvas.translate(x, y)
            self.canvas.scale(radius, radius)
            self.canvas.drawCircle(0, 0, 1, _halo(colour, strength))

    def veil(self, path: skia.Path, colour: int, alpha: float) -> None:
        """Lay a translucent colour over a path (light shafts, mist, glass)."""
        if not self.brush.is_mask:
            self.canvas.drawPath(path, _veil(colour, alpha))


def polygon(points: Sequence[Point]) -> skia.Path:
    """Return the closed path through the points."""
    path = skia.Path()
    path.addPoly([skia.Point(x, y) for x, y in points], True)
    return path


def ovals(*items: tuple[float, float, float, float]) -> skia.Path:
    """Return one path made of ellipses (x, y, rx, ry)."""
    path = skia.Path()
    for x, y, rx, ry in items:
        path.addOval(skia.Rect(x - rx, y - ry, x + rx, y + ry))
    return path


def rects(*items: tuple[float, float, float, float]) -> skia.Path:
    """Return one path made of rectangles (x0, y0, x1, y1)."""
    path = skia.Path()
    for x0, y0, x1, y1 in items:
        path.addRect(skia.Rect(x0, y0, x1, y1))
    return path


def rolling(left: float, middle: float, right: float) -> skia.Path:
    """Return land whose upper edge is a soft curve through three heights, filled to the bottom."""
    path = skia.Path()
    path.moveTo(-_BLEED, left)
    path.lineTo(0, left)
    path.cubicTo(0.2, left, 0.3, middle, 0.5, middle)
    path.cubicTo(0.7, middle, 0.8, right, 1, right)
    path.lineTo(1 + _BLEED, right)
    path.lineTo(1 + _BLEED, 1 + _BLEED)
    path.lineTo(-_BLEED, 1 + _BLEED)
    path.close()
    return path


CLOUD = ((ovals((-0.5, 0, 0.34, 0.24), (0, -0.12, 0.42, 0.36), (0.5, 0, 0.36, 0.24)), 0xFFFFFF),)


def _crescent() -> skia.Path:
    whole, bite = ovals((0, 0, 1, 1)), ovals((0.5, -0.22, 0.86, 0.86))
    return skia.Op(whole, bite, skia.PathOp.kDifference_PathOp)


MOON = ((_crescent(), 0xFFF3C4),)


def draw_sky(painter: PlacePainter, horizon: float, *, clouds: int = 2) -> None:
    """Draw the sky down to `horizon`: sun and clouds by day, a low sun at dusk, moon and stars at night."""
    rng, light = painter.rng, painter.light
    painter.gradient(0.0, horizon, *_SKIES[light], lit=True)
    x = rng.uniform(0.12, 0.88)
    if light == "night":
        stars = [(rng.uniform(0.02, 0.98), rng.uniform(0.02, horizon * 0.75)) for _ in range(11)]
        painter.path(ovals(*((sx, sy, 0.007, 0.007) for sx, sy in stars)), 0xFDF6D8, lit=True, detail=True)
        y = rng.uniform(0.1, 0.16)
        painter.halo(x, y, 0.2, 0xBFD0FF, 0.35)
        painter.stamp(MOON, x, y, 0.07, lit=True)
        return
    if light == "dusk":
        y = horizon - rng.uniform(0.02, 0.08)
        painter.halo(x, y, 0.34, 0xFFE2A0, 0.7)
        painter.oval(x, y, 0.095, 0.095, 0xFF7B54, lit=True)
    else:
        y = rng.uniform(0.1, 0.17)
        painter.halo(x, y, 0.2, 0xFFF6C8, 0.8)
        painter.oval(x, y, 0.07, 0.07, 0xFFD84D, lit=True)
    for _ in range(clouds):
        cx, cy, size = rng.uniform(0.05, 0.95), rng.uniform(0.08, 0.26), rng.uniform(0.1, 0.16)
        painter.stamp(CLOUD, cx, cy, size)
