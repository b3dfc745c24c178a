"""Where people are: the playground, the kitchen, the castle."""

from __future__ import annotations

from anystory.storyworld.places.base import Place
from anystory.storyworld.places.bedroom import draw_window
from anystory.storyworld.places.painter import PlacePainter, draw_sky, ovals, polygon, rects, rolling

SLIDE = (
    (rects((-0.5, -0.2, -0.44, 1.0), (-0.26, -0.2, -0.2, 1.0)), 0x5B6AA8),
    (rects((-0.5, 0.1, -0.2, 0.15), (-0.5, 0.38, -0.2, 0.43), (-0.5, 0.66, -0.2, 0.71)), 0x5B6AA8),
    (polygon([(-0.26, 0.0), (-0.1, 0.0), (0.5, 0.86), (0.78, 0.9), (0.78, 1.0), (0.42, 0.98)]), 0xF2674A),
    (polygon([(-0.62, -0.2), (-0.35, -0.5), (-0.08, -0.2)]), 0xFFC93C),
)
SWING = (
    (polygon([(-0.7, 1.0), (-0.52, 0), (-0.44, 0), (-0.62, 1.0)]), 0x5B6AA8),
    (polygon([(0.7, 1.0), (0.52, 0), (0.44, 0), (0.62, 1.0)]), 0x5B6AA8),
    (rects((-0.54, -0.04, 0.54, 0.04), (-0.2, 0, -0.18, 0.68), (0.18, 0, 0.2, 0.68)), 0x5B6AA8),
    (rects((-0.24, 0.66, 0.24, 0.73)), 0xFFC93C),
)
POT = (
    (rects((-0.5, -0.3, 0.5, 0.35)), 0xD9534A),
    (rects((-0.72, -0.16, -0.5, -0.02), (0.5, -0.16, 0.72, -0.02), (-0.56, -0.4, 0.56, -0.28)), 0xB23E37),
)
TOWER = (
    (rects((-0.22, 0.0, 0.22, 1.2)), 0xC6B9CF),
    (polygon([(-0.3, 0.02), (0, -0.55), (0.3, 0.02)]), 0x7B5FB0),
    (rects((-0.06, 0.2, 0.06, 0.42)), 0x5A4F74),
)
FLAG = ((polygon([(0, 0), (0.4, 0.14), (0, 0.28)]), 0xE8524A), (rects((-0.03, 0, 0.03, 0.6)), 0x5A4F74))
GATE = ((rects((-0.1, 0.0, 0.1, 0.2)), 0x6B4A34), (ovals((0, 0, 0.1, 0.12)), 0x6B4A34))


def _playground_back(painter: PlacePainter) -> None:
    rng = painter.rng
    draw_sky(painter, 0.62, clouds=2)
    painter.path(rolling(rng.uniform(0.5, 0.56), 0.54, rng.uniform(0.5, 0.56)), 0x9ACB86)
    painter.path(rolling(0.68, rng.uniform(0.66, 0.7), 0.68), 0xBFDB8C)
    left = rng.chance(0.5)
    x = rng.uniform(0.2, 0.26)
    painter.stamp(SLIDE, x if left else 1 - x, 0.4, 0.34, flip=not left)
    painter.stamp(SWING, 1 - x if left else x, 0.4, 0.34)
    painter.oval(0.5, 0.93, 0.5, 0.14, 0xEBD29A)


PLAYGROUND = Place(
    name="playground",
    phrases=("on a playground", "at the playground", "by the slide", "on the playground"),
    back=_playground_back,
)


def _kitchen_back(painter: PlacePainter) -> None:
    rng = painter.rng
    painter.rect(0, 0, 1, 0.78, 0xF7E6B8)
    lines = [(0, y, 1, y + 0.005) for y in (0.42, 0.49, 0.56)]
    lines += [(0.1 * i, 0.36, 0.1 * i + 0.005, 0.6) for i in range(11)]
    painter.path(rects(*lines), 0xE6CF97, detail=True)
    left = rng.chance(0.5)

    def box(x0: float, y0: float, x1: float, y1: float, colour: int, radius: float = 0.0) -> None:
        a, b = (x0, x1) if left else (1 - x1, 1 - x0)
        painter.rect(a, y0, b, y1, colour, radius=radius)

    x = rng.uniform(0.4, 0.46)
    x = x if left else 1 - x - 0.24
    draw_window(painter, x, 0.1, x + 0.24, 0.32, curtain=None)
    box(-0.02, 0.12, 0.3, 0.34, 0x6FA8A0)
    box(0.02, 0.15, 0.135, 0.31, 0x8CC0B6)
    box(0.155, 0.15, 0.27, 0.31, 0x8CC0B6)
    box(0.74, 0.16, 1.02, 0.76, 0xE9EEF2, 0.02)
    box(0.78, 0.24, 0.8, 0.36, 0x9AA5B1)
    box(0.78, 0.46, 0.8, 0.6, 0x9AA5B1)
    box(-0.02, 0.58, 0.74, 0.62, 0x9C6B45)
    box(-0.02, 0.62, 0.74, 0.77, 0x6FA8A0)
    box(0.06, 0.64, 0.3, 0.76, 0x434B58)
    painter.stamp(POT, 0.17 if left else 0.83, 0.555, 0.08)
    painter.gradient(0.77, 1.0, 0xE8E1D5, 0xF5F0E6)
    tiles = [(0.2 * i + 0.1 * (j % 2), 0.77 + 0.08 * j, 0.2 * i + 0.1 + 0.1 * (j % 2), 0.85 + 0.08 * j)
             for i in range(-1, 5) for j in range(3)]  # fmt: skip
    painter.path(rects(*tiles), 0xC7D4D0, detail=True)


KITCHEN = Place(
    name="kitchen",
    phrases=("in a kitchen", "in the kitchen", "in a bright kitchen", "by the fridge"),
    back=_kitchen_back,
    indoor=True,
)


def _castle_back(painter: PlacePainter) -> None:
    rng = painter.rng
    draw_sky(painter, 0.7, clouds=2)
    painter.path(rolling(rng.uniform(0.54, 0.6), 0.5, rng.uniform(0.54, 0.6)), 0x93BF78)
    x = rng.uniform(0.36, 0.64)
    for dx, top, size in ((-0.22, 0.36, 0.26), (0.22, 0.36, 0.26), (0.0, 0.3, 0.3)):
        painter.stamp(TOWER, x + dx, top, size)
    wall = [(x - 0.34 + 0.085 * i, 0.43, x - 0.29 + 0.085 * i, 0.47) for i in range(8)]
    painter.path(rects((x - 0.34, 0.46, x + 0.34, 0.66), *wall), 0xB3A5C0)
    painter.stamp(GATE, x, 0.52, 0.7)
    painter.stamp(FLAG, x, 0.07, 0.13)
    painter.path(rolling(0.64, rng.uniform(0.64, 0.68), 0.64), 0x86B864)
    path = polygon([(x - 0.08, 0.66), (x + 0.08, 0.66), (x + 0.3, 1.0), (x - 0.3, 1.0)])
    painter.path(path, 0xE3CFA0, detail=True)


CASTLE = Place(
    name="castle",
    phrases=("in front of a castle", "at the castle", "by a castle", "by an old castle"),
    back=_castle_back,
)
