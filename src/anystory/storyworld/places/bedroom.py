"""The bedroom, and the window that shows indoor places the time of day."""

from __future__ import annotations

from anystory.storyworld.places.base import Place
from anystory.storyworld.places.painter import MOON, PlacePainter, ovals, rects

_PANES = {"day": 0x9FDCF7, "dusk": 0xFF9E6B, "night": 0x1B2A5E}


def draw_window(painter: PlacePainter, x0: float, y0: float, x1: float, y1: float, *, curtain: int | None) -> None:
    """Draw a window whose panes show day, dusk or night; `curtain` is a colour or None."""
    light, width = painter.light, x1 - x0
    painter.rect(x0 - 0.018, y0 - 0.018, x1 + 0.018, y1 + 0.018, 0xFFFFFF)
    painter.rect(x0, y0, x1, y1, _PANES[light], lit=True)
    cx, cy = x0 + width * 0.68, y0 + (y1 - y0) * 0.3
    if light == "night":
        painter.stamp(MOON, cx, cy, 0.038, lit=True)
        stars = ovals((x0 + 0.05, y0 + 0.05, 0.007, 0.007), (x0 + 0.08, y1 - 0.06, 0.007, 0.007))
        painter.path(stars, 0xFDF6D8, lit=True, detail=True)
    elif light == "dusk":
        painter.oval(cx, y1 - 0.05, 0.045, 0.045, 0xFFE08A, lit=True)
    else:
        painter.oval(cx, cy, 0.038, 0.038, 0xFFE15C, lit=True)
    middle, centre = (x0 + x1) / 2, (y0 + y1) / 2
    painter.path(
        rects((middle - 0.007, y0, middle + 0.007, y1), (x0, centre - 0.007, x1, centre + 0.007)), 0xFFFFFF, detail=True
    )
    if curtain is not None:
        drop = y1 + 0.05
        painter.path(rects((x0 - 0.05, y0 - 0.03, x0 + 0.03, drop), (x1 - 0.03, y0 - 0.03, x1 + 0.05, drop)), curtain)
        painter.rect(x0 - 0.07, y0 - 0.05, x1 + 0.07, y0 - 0.025, 0x8A5F3C)


def _bed(painter: PlacePainter, x0: float, direction: int) -> None:
    """A bed seen from the side, its headboard at x0, reaching `direction` (+1 right, -1 left)."""

    def box(a: float, y0: float, b: float, y1: float, colour: int, radius: float = 0.02) -> None:
        left, right = sorted((x0 + direction * a, x0 + direction * b))
        painter.rect(left, y0, right, y1, colour, radius=radius)

    box(0.0, 0.44, 0.05, 0.8, 0x8A5A3C)
    box(0.4, 0.58, 0.44, 0.8, 0x8A5A3C)
    box(0.03, 0.6, 0.42, 0.75, 0xF7F2EA)
    box(0.05, 0.54, 0.17, 0.62, 0xFFFFFF, 0.03)
    box(0.15, 0.57, 0.42, 0.74, painter.rng.pick((0x5B8FD6, 0x4C9F9A)))


def _bedroom_back(painter: PlacePainter) -> None:
    rng = painter.rng
    painter.rect(0, 0, 1, 0.7, 0xE6C3DC)
    painter.path(rects(*((0.1 * i, 0, 0.1 * i + 0.04, 0.66) for i in range(10))), 0xEED2E4, detail=True)
    painter.rect(0, 0.655, 1, 0.69, 0xFBF3F0)
    painter.gradient(0.69, 1.0, 0xB97F4F, 0xD9A06A)
    painter.path(rects(*((0, y, 1, y + 0.006) for y in (0.75, 0.83, 0.92))), 0xA56F43, detail=True)
    right = rng.chance(0.5)
    x = rng.uniform(0.1, 0.16)
    x = 1 - x - 0.26 if right else x
    draw_window(painter, x, 0.12, x + 0.26, 0.4, curtain=rng.pick((0xE2665A, 0xF2B84B)))
    _bed(painter, -0.02 if right else 1.02, 1 if right else -1)
    lamp = 0.5 + rng.uniform(-0.05, 0.05)
    painter.path(rects((lamp - 0.008, 0, lamp + 0.008, 0.1)), 0x6B5A6E)
    if painter.light == "night":
        painter.halo(lamp, 0.13, 0.4, 0xFFE6A6, 0.55)
    painter.oval(lamp, 0.12, 0.065, 0.04, 0xFFD98A, lit=painter.light != "day")
    painter.oval(rng.uniform(0.45, 0.55), 0.9, 0.36, 0.075, rng.pick((0x7FB7A8, 0xF2E0B0)))


BEDROOM = Place(
    name="bedroom",
    phrases=("in a bedroom", "in the bedroom", "in a cosy bedroom", "in a room with a bed"),
    back=_bedroom_back,
    indoor=True,
    shadow=0.26,
)
