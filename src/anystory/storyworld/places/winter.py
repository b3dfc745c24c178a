"""The snowfield."""

from __future__ import annotations

from anystory.storyworld.places.base import Place
from anystory.storyworld.places.painter import PlacePainter, draw_sky, ovals, polygon, rects, rolling

_NEEDLES = polygon([
    (0, 0), (0.22, 0.32), (0.12, 0.32), (0.3, 0.6), (0.18, 0.6), (0.38, 0.86), (-0.38, 0.86), (-0.18, 0.6), (-0.3, 0.6),
    (-0.12, 0.32), (-0.22, 0.32),
])  # fmt: skip
PINE = (
    (rects((-0.06, 0.8, 0.06, 1.0)), 0x6B4A34),
    (_NEEDLES, 0x3F7F73),
    (polygon([(0, 0), (0.15, 0.22), (0.05, 0.17), (-0.04, 0.23), (-0.15, 0.22)]), 0xFFFFFF),
    (polygon([(-0.3, 0.6), (-0.14, 0.36), (0.0, 0.5), (0.14, 0.36), (0.3, 0.6), (0.1, 0.55), (-0.08, 0.6)]), 0xF4FAFF),
)
PEAK = (
    (polygon([(-1, 0), (0, -1), (1, 0)]), 0xA9B9D4),
    (polygon([(-0.34, -0.66), (0, -1), (0.34, -0.66), (0.14, -0.74), (0, -0.6), (-0.15, -0.72)]), 0xFFFFFF),
)
MOUND = ((ovals((0, 0.5, 1.0, 0.62)), 0xFFFFFF),)


def _snowfield_back(painter: PlacePainter) -> None:
    rng = painter.rng
    draw_sky(painter, 0.62, clouds=0)
    for x in (rng.uniform(0.0, 0.3), rng.uniform(0.65, 1.0), rng.uniform(0.35, 0.6)):
        painter.stamp(PEAK, x, 0.66, rng.uniform(0.26, 0.36))
    painter.path(rolling(rng.uniform(0.58, 0.64), rng.uniform(0.58, 0.63), rng.uniform(0.58, 0.64)), 0xC9DDF0)
    for x in (rng.uniform(0.05, 0.14), rng.uniform(0.86, 0.95)):
        painter.stamp(PINE, x, rng.uniform(0.32, 0.4), rng.uniform(0.34, 0.4))
    painter.path(rolling(rng.uniform(0.7, 0.74), rng.uniform(0.67, 0.72), rng.uniform(0.7, 0.74)), 0xE9F2FB)
    flakes = [(rng.uniform(0, 1), rng.uniform(0.02, 0.66)) for _ in range(16)]
    painter.path(ovals(*((x, y, 0.01, 0.01) for x, y in flakes)), 0xFFFFFF, lit=True, detail=True)


def _snowfield_front(painter: PlacePainter) -> None:
    rng = painter.rng
    x = rng.uniform(0.0, 0.16)
    painter.stamp(MOUND, x if rng.chance(0.5) else 1 - x, 0.98, 0.12)


SNOWFIELD = Place(
    name="snowfield",
    phrases=("in a snowy field", "in the snow", "on a snowfield", "in a snowy landscape", "in deep snow"),
    back=_snowfield_back,
    front=_snowfield_front,
    shadow=0.16,
)
