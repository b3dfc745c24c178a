"""Places of wonder: under water and on a little planet in space."""

from __future__ import annotations

import skia

from anystory.storyworld.places.base import Place
from anystory.storyworld.places.painter import PlacePainter, ovals, polygon, rolling

_WATER = {"day": (0x8FE3EC, 0x2C8FC4), "dusk": (0xE9A59B, 0x4B5A9E), "night": (0x24427F, 0x101E4C)}
_SPACE = {"day": (0x35317A, 0x6C62B8), "dusk": (0x5A2F6E, 0xC0607E), "night": (0x0C0F2B, 0x27285E)}
FISH = (
    (polygon([(0.5, 0), (1.0, -0.45), (1.0, 0.45)]), 0xF2933D),
    (ovals((0, 0, 0.68, 0.42)), 0xFFB347),
    (ovals((-0.36, -0.08, 0.09, 0.09)), 0x2C2A36),
)
CORAL = (
    (polygon([(-0.1, 1), (-0.5, 0.1), (-0.36, 0), (-0.1, 0.4), (-0.08, -0.2), (0.1, -0.2), (0.14, 0.36),
              (0.42, -0.04), (0.54, 0.06), (0.14, 1)]), 0xE86F8B),
)  # fmt: skip
RINGED = (
    (ovals((0, 0, 0.6, 0.6)), 0xF2B270),
    (skia.Op(ovals((0, 0, 1.1, 0.26)), ovals((0, -0.03, 0.82, 0.14)), skia.PathOp.kDifference_PathOp), 0xF7DFB4),
)
CRATER = ((ovals((0, 0, 1, 0.36)), 0x9D93BD), (ovals((0, 0.07, 0.8, 0.25)), 0x857BA8))
ROCKET = (
    (polygon([(-0.2, 0.4), (-0.5, 0.8), (-0.2, 0.72)]), 0xE8524A),
    (polygon([(0.2, 0.4), (0.5, 0.8), (0.2, 0.72)]), 0xE8524A),
    (ovals((0, 0.2, 0.26, 0.62)), 0xEDF0F5),
    (ovals((0, 0.02, 0.12, 0.12)), 0x5BA7D9),
)


def _weed(x: float, height: float, sway: float) -> skia.Path:
    path = skia.Path()
    path.moveTo(x - 0.015, 0.8)
    path.quadTo(x + sway, 0.8 - height * 0.5, x, 0.8 - height)
    path.quadTo(x + sway + 0.035, 0.8 - height * 0.5, x + 0.02, 0.8)
    path.close()
    return path


def _sea_floor_back(painter: PlacePainter) -> None:
    rng = painter.rng
    painter.gradient(0.0, 0.85, *_WATER[painter.light], lit=True)
    for x in (rng.uniform(0.1, 0.3), rng.uniform(0.6, 0.8)):
        painter.veil(polygon([(x, 0), (x + 0.1, 0), (x + 0.02, 0.8), (x - 0.2, 0.8)]), 0xFFFFFF, 0.13)
    weeds = skia.Path()
    for start in (rng.uniform(0.02, 0.08), rng.uniform(0.82, 0.88)):
        for i in range(3):
            weeds.addPath(_weed(start + 0.05 * i, rng.uniform(0.25, 0.5), rng.uniform(-0.06, 0.06)))
    painter.path(weeds, 0x3E9B6B)
    painter.path(rolling(rng.uniform(0.72, 0.76), 0.76, rng.uniform(0.72, 0.76)), 0xE7D29B)
    coral = rng.uniform(0.14, 0.26)
    painter.stamp(CORAL, coral if rng.chance(0.5) else 1 - coral, 0.62, 0.17)
    for y in (rng.uniform(0.1, 0.2), rng.uniform(0.24, 0.34)):
        painter.stamp(FISH, rng.uniform(0.12, 0.88), y, 0.06, flip=rng.chance(0.5))
    bubbles = [(rng.uniform(0.03, 0.97), rng.uniform(0.05, 0.7), rng.uniform(0.007, 0.015)) for _ in range(10)]
    painter.veil(ovals(*((x, y, r, r) for x, y, r in bubbles)), 0xFFFFFF, 0.6)


def _sea_floor_front(painter: PlacePainter) -> None:
    x = painter.rng.uniform(0.02, 0.1)
    painter.stamp(CORAL, x if painter.rng.chance(0.5) else 1 - x, 0.9, 0.1)


SEA_FLOOR = Place(
    name="under water",
    phrases=("under water", "under the sea", "at the bottom of the sea", "among the fish"),
    back=_sea_floor_back,
    front=_sea_floor_front,
)


def _planet_back(painter: PlacePainter) -> None:
    rng = painter.rng
    painter.gradient(0.0, 0.75, *_SPACE[painter.light], lit=True)
    stars = [(rng.uniform(0.01, 0.99), rng.uniform(0.01, 0.66), rng.uniform(0.004, 0.009)) for _ in range(26)]
    painter.path(ovals(*((x, y, r, r) for x, y, r in stars)), 0xFDF6D8, lit=True, detail=True)
    left = rng.chance(0.5)
    x = rng.uniform(0.14, 0.24)
    painter.stamp(RINGED, x if left else 1 - x, rng.uniform(0.16, 0.26), 0.16, lit=True)
    painter.stamp(ROCKET, 1 - x if left else x, rng.uniform(0.44, 0.5), 0.24)
    painter.path(rolling(0.72, rng.uniform(0.64, 0.68), 0.72), 0xB9AFD6)
    for _ in range(3):
        painter.stamp(CRATER, rng.uniform(0.05, 0.95), rng.uniform(0.76, 0.96), rng.uniform(0.05, 0.09))


PLANET = Place(
    name="space",
    phrases=("in space", "on a planet", "on the moon", "on a planet far away"),
    back=_planet_back,
    shadow=0.3,
)
