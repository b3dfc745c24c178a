"""Warm and high country: the desert, the mountain, the farm."""

from __future__ import annotations

from anystory.storyworld.places.base import Place
from anystory.storyworld.places.painter import PlacePainter, draw_sky, ovals, polygon, rects, rolling
from anystory.storyworld.places.woodland import GRASS

CACTUS = (
    (rects((-0.1, 0.0, 0.1, 1.0), (-0.36, 0.42, 0.0, 0.56), (0.0, 0.3, 0.36, 0.44)), 0x4E9A5A),
    (rects((-0.36, 0.16, -0.22, 0.56), (0.22, 0.05, 0.36, 0.44)), 0x4E9A5A),
    (ovals((0, 0, 0.1, 0.09), (-0.29, 0.16, 0.07, 0.07), (0.29, 0.05, 0.07, 0.07)), 0x5FB06A),
)
MESA = (
    (polygon([(-1, 0), (-0.8, -0.62), (-0.5, -0.7), (0.5, -0.7), (0.78, -0.6), (1, 0)]), 0xC9744F),
    (polygon([(-0.86, -0.44), (-0.82, -0.56), (0.81, -0.53), (0.85, -0.42)]), 0xDF9468),
)
PEBBLES = ((ovals((0, 0, 1.0, 0.6), (0.9, 0.2, 0.6, 0.4)), 0xB5835A),)
CLIFF = (
    (polygon([(-1, 0), (-0.35, -0.72), (-0.12, -0.6), (0.2, -1), (0.6, -0.5), (1, 0)]), 0x7C8598),
    (polygon([(0.2, -1), (0.6, -0.5), (1, 0), (0.45, 0), (0.3, -0.5)]), 0x656E82),
    (polygon([(0.2, -1), (0.38, -0.78), (0.24, -0.72), (0.16, -0.8), (0.04, -0.82)]), 0xFFFFFF),
)
BOULDER = ((ovals((0, 0, 1, 0.72)), 0x8B93A3), (ovals((-0.25, -0.25, 0.45, 0.25)), 0xA3ABB9))
BARN = (
    (rects((-0.6, -0.55, 0.6, 0.5)), 0xC8463C),
    (polygon([(-0.7, -0.5), (-0.42, -0.95), (0, -1.15), (0.42, -0.95), (0.7, -0.5)]), 0x7A4A3F),
    (rects((-0.24, -0.1, 0.24, 0.5)), 0xF6EBDD),
    (rects((-0.2, -0.06, -0.02, 0.5), (0.02, -0.06, 0.2, 0.5)), 0xA8382F),
    (rects((-0.12, -0.45, 0.12, -0.24)), 0xF6EBDD),
)
HAYSTACK = ((ovals((0, 0, 0.8, 0.62)), 0xE8C25A), (rects((-0.84, 0.1, 0.84, 0.3)), 0xD3A944))


def _desert_back(painter: PlacePainter) -> None:
    rng = painter.rng
    draw_sky(painter, 0.66, clouds=0)
    for x in (rng.uniform(0.1, 0.35), rng.uniform(0.65, 0.95)):
        painter.stamp(MESA, x, 0.64, rng.uniform(0.2, 0.28))
    painter.path(rolling(rng.uniform(0.56, 0.62), 0.6, rng.uniform(0.56, 0.62)), 0xEFB467)
    painter.path(rolling(0.7, rng.uniform(0.66, 0.7), 0.72), 0xF5C67C)
    side = rng.uniform(0.1, 0.18)
    left = rng.chance(0.5)
    painter.stamp(CACTUS, side if left else 1 - side, rng.uniform(0.34, 0.4), 0.42)
    painter.stamp(CACTUS, 1 - side if left else side, 0.54, 0.2)


def _desert_front(painter: PlacePainter) -> None:
    x = painter.rng.uniform(0.03, 0.14)
    painter.stamp(PEBBLES, x if painter.rng.chance(0.5) else 1 - x, 0.98, 0.05)


DESERT = Place(
    name="desert",
    phrases=("in a desert", "in the desert", "among the cactuses", "in a hot desert"),
    back=_desert_back,
    front=_desert_front,
    shadow=0.26,
)


def _mountain_back(painter: PlacePainter) -> None:
    rng = painter.rng
    draw_sky(painter, 0.72, clouds=2)
    for x, size in ((rng.uniform(0.0, 0.25), 0.46), (rng.uniform(0.75, 1.0), 0.42), (rng.uniform(0.4, 0.6), 0.56)):
        painter.stamp(CLIFF, x, 0.72, size, flip=rng.chance(0.5))
    painter.path(rolling(0.66, rng.uniform(0.68, 0.74), rng.uniform(0.62, 0.7)), 0x8FA37A)
    painter.path(rolling(rng.uniform(0.74, 0.8), 0.75, rng.uniform(0.74, 0.8)), 0xA9B58C)
    for x in (rng.uniform(0.04, 0.16), rng.uniform(0.84, 0.96)):
        painter.stamp(BOULDER, x, rng.uniform(0.74, 0.78), rng.uniform(0.06, 0.09))


def _mountain_front(painter: PlacePainter) -> None:
    x = painter.rng.uniform(0.0, 0.12)
    painter.stamp(BOULDER, x if painter.rng.chance(0.5) else 1 - x, 1.0, 0.08)


MOUNTAIN = Place(
    name="mountain",
    phrases=("on a mountain", "in the mountains", "high in the mountains", "on a rocky mountain"),
    back=_mountain_back,
    front=_mountain_front,
)


def _farm_back(painter: PlacePainter) -> None:
    rng = painter.rng
    draw_sky(painter, 0.6, clouds=2)
    painter.path(rolling(0.5, rng.uniform(0.5, 0.56), 0.52), 0xD9C766)
    barn = rng.uniform(0.2, 0.3)
    left = rng.chance(0.5)
    painter.stamp(BARN, barn if left else 1 - barn, 0.52, 0.28)
    painter.path(rolling(rng.uniform(0.62, 0.66), 0.66, rng.uniform(0.62, 0.66)), 0xA5C85E)
    painter.stamp(HAYSTACK, 1 - barn * 0.6 if left else barn * 0.6, 0.64, 0.12)
    posts = [(0.02 + 0.14 * i, 0.64, 0.04 + 0.14 * i, 0.76) for i in range(8)]
    painter.path(rects(*posts, (0, 0.665, 1, 0.68), (0, 0.71, 1, 0.725)), 0xC79A6B)
    painter.path(rolling(0.76, rng.uniform(0.74, 0.77), 0.76), 0xC9A873)


def _farm_front(painter: PlacePainter) -> None:
    for _ in range(3):
        painter.stamp(GRASS, painter.rng.uniform(0.03, 0.97), 1.0, 0.05)


FARM = Place(
    name="farm",
    phrases=("on a farm", "on the farm", "in front of a barn", "by the red barn"),
    back=_farm_back,
    front=_farm_front,
)
