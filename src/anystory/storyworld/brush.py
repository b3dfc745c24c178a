"""How one shape is painted: in a drawing style and a light, or as a flat instance id."""

from __future__ import annotations

from collections.abc import Sequence

import skia

from anystory.storyworld.level import check_words
from anystory.storyworld.palette import mix, multiply, shade

STYLES = ("flat", "outlined", "papercut")
LIGHTS: dict[str, int] = {"day": 0xFFFFFF, "dusk": 0xFFEADF, "night": 0xCDD4F4}
"""Light -> the colour that it multiplies characters by: mild, so that their colours stay recognisable."""

PASTEL = 0xFBF1E4
_OUTLINE_INK = 0x2A2338
_POLYGON = skia.Canvas.PointMode.kPolygon_PointMode


class Brush:
    """Paints shapes on a skia canvas; the same drawing code gives every style, and with `Brush.mask` the instance ids.

    Colours are ints 0xRRGGBB and lengths are in the current units of the canvas. A shape with `detail=True` lies
    inside one that is already drawn (an eye, a pattern): it gets neither outline nor shadow, and a mask skips it.

    A brush keeps its skia paints, so make one per (style, light) and keep it.

    Args:
        style: "flat", "outlined" (a dark line around every shape) or "papercut" (pastel, a small shadow per layer).
        light: "day", "dusk" or "night".
        outline: width of the line of "outlined", in canvas units. The default suits characters, which are drawn in
            units of their height; scenery drawn on the unit square wants about a third of it.
        paper: the colour that "papercut" mixes into all others. Scenery that is already painted in the colours of
            the night wants paper of the night.

    Raises:
        ValueError: unknown style or light.
    """

    def __init__(self, style: str = "flat", light: str = "day", *, outline: float = 0.022, paper: int = PASTEL) -> None:
        self.style, self.light = style, light
        check_words(self, style=STYLES, light=LIGHTS)
        self.outline = outline if style == "outlined" else 0.0
        self.is_mask = False
        self._tint = LIGHTS[light]
        self._paper = paper
        self._shadow = (0.008, 0.012) if style == "papercut" else None
        self._level: int | None = None
        self._fills: dict[int, skia.Paint] = {}
        self._strokes: dict[tuple[int, float], skia.Paint] = {}
        self._prepare()

    @classmethod
    def mask(cls, level: int, style: str = "flat", *, outline: float = 0.022) -> Brush:
        """A brush that paints every pixel of every shape with the grey `level` (0 to 255), without antialiasing.

        `style` must be that of the picture the mask belongs to: the outline is part of the character. Its shadow on
        the paper is not.
        """
        if not 0 <= level <= 255:
            raise ValueError(f"a mask level lies in 0..255, got {level}")
        brush = cls(style, outline=outline)
        brush.is_mask = True
        brush._level = level
        brush._shadow = None
        brush._prepare()
        return brush

    def _prepare(self) -> None:
        self._fills.clear()
        self._strokes.clear()
        self._line = self._paint(_OUTLINE_INK)
        self._line.setStyle(skia.Paint.kStroke_Style)
        self._line.setStrokeWidth(self.outline)
        self._line.setStrokeJoin(skia.Paint.kRound_Join)
        self._dark = skia.Paint(AntiAlias=True, Color=skia.Color(40, 24, 60, 70))

    def colour(self, colour: int) -> int:
        """The colour that a shape of `colour` really gets: pastel for papercut, tinted by the light."""
        if self.style == "papercut":
            colour = mix(colour, self._paper, 0.34)
        return multiply(colour, self._tint)

    def _paint(self, colour: int) -> skia.Paint:
        if self._level is not None:
            grey = self._level
            return skia.Paint(AntiAlias=False, Color=skia.Color(grey, grey, grey, 255))
        return skia.Paint(AntiAlias=True, Color=0xFF000000 | self.colour(colour))

    def fill(self, colour: int) -> skia.Paint:
        """The paint that fills a shape with `colour`."""
        paint = self._fills.get(colour)
        if paint is None:
            paint = self._fills[colour] = self._paint(colour)
        return paint

    def pen(self, colour: int, width: float) -> skia.Paint:
        """The paint that draws a line of `colour` with round ends, `width` in canvas units."""
        key = (colour, width)
        paint = self._strokes.get(key)
        if paint is None:
            paint = self._paint(colour)
            paint.setStyle(skia.Paint.kStroke_Style)
            paint.setStrokeWidth(width)
            paint.setStrokeCap(skia.Paint.kRound_Cap)
            paint.setStrokeJoin(skia.Paint.kRound_Join)
            self._strokes[key] = paint
        return paint

    def path(self, canvas: skia.Canvas, path: skia.Path, colour: int, *, detail: bool = False) -> None:
        """Fills `path`."""
        if detail and self.is_mask:
            return
        if self._shadow and not detail:
            dx, dy = self._shadow
            canvas.translate(dx, dy)
            canvas.drawPath(path, self._dark)
            canvas.translate(-dx, -dy)
        canvas.drawPath(path, self.fill(colour))
        if self.outline and not detail:
            canvas.drawPath(path, self._line)

    def oval(
        self, canvas: skia.Canvas, x: float, y: float, rx: float, ry: float, colour: int, *, detail: bool = False
    ) -> None:
        """Fills an ellipse with centre (x, y) and radii rx, ry."""
        if detail and self.is_mask:
            return
        rect = skia.Rect(x - rx, y - ry, x + rx, y + ry)
        if self._shadow and not detail:
            canvas.drawOval(rect.makeOffset(*self._shadow), self._dark)
        canvas.drawOval(rect, self.fill(colour))
        if self.outline and not detail:
            canvas.drawOval(rect, self._line)

    def circle(self, canvas: skia.Canvas, x: float, y: float, r: float, colour: int, *, detail: bool = False) -> None:
        """Fills a circle with centre (x, y) and radius r."""
        self.oval(canvas, x, y, r, r, colour, detail=detail)

    def rect(
        self,
        canvas: skia.Canvas,
        left: float,
        top: float,
        right: float,
        bottom: float,
        colour: int,
        *,
        radius: float = 0.0,
        detail: bool = False,
    ) -> None:
        """Fills a rectangle whose corners are rounded by `radius`."""
        if detail and self.is_mask:
            return
        rect = skia.Rect(left, top, right, bottom)
        if self._shadow and not detail:
            canvas.drawRoundRect(rect.makeOffset(*self._shadow), radius, radius, self._dark)
        canvas.drawRoundRect(rect, radius, radius, self.fill(colour))
        if self.outline and not detail:
            canvas.drawRoundRect(rect, radius, radius, self._line)

    def line(
        self,
        canvas: skia.Canvas,
        points: Sequence[tuple[float, float]],
        width: float,
        colour: int,
        *,
        detail: bool = False,
    ) -> None:
        """Draws straight segments through `points` with round ends and joints, `width` thick (an arm, a stick)."""
        if detail and self.is_mask:
            return
        corners = [skia.Point(x, y) for x, y in points]
        if not detail:
            if self.outline:
                canvas.drawPoints(_POLYGON, corners, self.pen(_OUTLINE_INK, width + self.outline))
            elif self._shadow:
                dx, dy = self._shadow
                shadow = self.pen(shade(colour, 0.3), width)
                canvas.translate(dx, dy)
                canvas.drawPoints(_POLYGON, corners, shadow)
                canvas.translate(-dx, -dy)
        canvas.drawPoints(_POLYGON, corners, self.pen(colour, width))

    def stroke(self, canvas: skia.Canvas, path: skia.Path, width: float, colour: int, *, detail: bool = False) -> None:
        """Draws `path` as a line of `width` with round ends."""
        if detail and self.is_mask:
            return
        if self.outline and not detail:
            canvas.drawPath(path, self.pen(_OUTLINE_INK, width + self.outline))
        canvas.drawPath(path, self.pen(colour, width))
