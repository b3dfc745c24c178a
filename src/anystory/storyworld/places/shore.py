"""The beach."""

from __future__ import annotations

import skia

from anystory.storyworld.places.base import Place
from anystory.storyworld.places.painter import PlacePainter, draw_sky, ovals, polygon, rects, rolling


def _leaf(dx: float, dy: float) -> skia.Path:
    """A palm leaf from the crown (0, 0) that bends over to (dx, dy)."""
    path = skia.Path()
    path.moveTo(0, 0)
    path.quadTo(dx * 0.55, dy - 0.3, dx, dy)
    path.quadTo(dx * 0.45, dy - 0.04, 0, 0.07)
    path.close()
    return path


def _trunk() -> skia.Path:
    path = skia.Path()
    path.moveTo(-0.06, 1.0)
    path.quadTo(-0.1, 0.4, -0.03, 0)
    path.lineTo(0.04, 0)
    path.quadTo(0.0, 0.4, 0.08, 1.0)
    path.close()
    return path


def _crown() -> skia.Path:
    path = skia.Path()
    for dx, dy in ((-0.52, 0.16), (-0.4, -0.14), (0.5, 0.16), (0.38, -0.16), (0.02, -0.34), (-0.26, 0.36), (0.3, 0.36)):
        path.addPath(_leaf(dx, dy))
    return path


PALM = (
    (_trunk(), 0x9A6B3F),
    (_crown(), 0x3E9B57),
    (ovals((-0.05, 0.08, 0.05, 0.05), (0.06, 0.09, 0.05, 0.05)), 0x6B4426),
)
BOAT = (
    (polygon([(-0.06, -0.05), (-0.06, -0.95), (-0.62, -0.05)]), 0xFFFFFF),
    (polygon([(0.03, -0.05), (0.03, -0.85), (0.48, -0.05)]), 0xF2E3C6),
    (polygon([(-0.7, 0.0), (0.7, 0.0), (0.45, 0.28), (-0.45, 0.28)]), 0xB5523B),
)
SHELL = ((polygon([(0, 0.5), (-0.6, -0.1), (-0.35, -0.5), (0, -0.62), (0.35, -0.5), (0.6, -0.1)]), 0xF2A48D),)
_FIVE_ARMS = polygon([
    (0, -1), (0.25, -0.3), (0.95, -0.3), (0.4, 0.14), (0.6, 0.82), (0, 0.4), (-0.6, 0.82), (-0.4, 0.14), (-0.95, -0.3),
    (-0.25, -0.3),
])  # fmt: skip
STARFISH = ((_FIVE_ARMS, 0xE8735A),)


def _beach_back(painter: PlacePainter) -> None:
    rng = painter.rng
    sea = rng.uniform(0.42, 0.48)
    draw_sky(painter, sea, clouds=1)
    painter.gradient(sea, 0.72, 0x1F9FC0, 0x5FD3D0)
    starts = [(rng.uniform(0.0, 0.8), sea + 0.04 + 0.045 * i) for i in range(3)]
    painter.path(rects(*((x, y, x + 0.16, y + 0.009) for x, y in starts)), 0xBFEDEC, detail=True)
    side = rng.chance(0.5)
    boat = rng.uniform(0.55, 0.8)
    painter.stamp(BOAT, boat if side else 1 - boat, sea + 0.02, rng.uniform(0.1, 0.13))
    shore = rng.uniform(0.6, 0.65)
    tilt = rng.uniform(-0.03, 0.03)
    painter.path(rolling(shore + tilt - 0.012, shore + 0.004, shore - tilt - 0.012), 0xF4FBF8)
    painter.path(rolling(shore + tilt + 0.008, shore + 0.026, shore - tilt + 0.008), 0xF3DCA0)
    palm = rng.uniform(0.1, 0.16)
    painter.stamp(PALM, palm if side else 1 - palm, rng.uniform(0.2, 0.27), 0.5, flip=not side)


def _beach_front(painter: PlacePainter) -> None:
    rng = painter.rng
    thing = rng.pick((SHELL, STARFISH))
    x = rng.uniform(0.06, 0.2)
    painter.stamp(thing, x if rng.chance(0.5) else 1 - x, rng.uniform(0.93, 0.96), 0.04)


BEACH = Place(
    name="beach",
    phrases=("on a beach", "on the beach", "at the beach", "on a sandy beach", "by the sea"),
    back=_beach_back,
    front=_beach_front,
)
