"""The forest and the meadow."""

from __future__ import annotations

import skia

from anystory.storyworld.places.base import Place
from anystory.storyworld.places.painter import PlacePainter, draw_sky, ovals, polygon, rects, rolling

_GLADE = {"day": (0x5E9E5F, 0xCFE8A5), "dusk": (0x6F5A5E, 0xF6A96C), "night": (0x14283F, 0x3C6486)}
MUSHROOM = (
    (rects((-0.22, -0.1, 0.22, 0.8)), 0xF7EBD8),
    (ovals((0, -0.15, 0.75, 0.48)), 0xD9483B),
    (ovals((-0.3, -0.2, 0.13, 0.12), (0.28, -0.12, 0.12, 0.1), (0.02, -0.42, 0.11, 0.1)), 0xFFF6EA),
)
FERN = (
    (
        polygon([(0, 0), (-0.9, -0.5), (-0.3, -0.4), (-0.5, -1.1), (0, -0.5), (0.5, -1.1), (0.3, -0.4), (0.9, -0.5)]),
        0x3F7F43,
    ),
)
ROUND_TREE = (
    (polygon([(-0.09, 1.0), (-0.06, 0.2), (0.06, 0.2), (0.09, 1.0)]), 0x8A5F3C),
    (ovals((0, -0.05, 0.46, 0.42), (-0.3, 0.16, 0.3, 0.27), (0.3, 0.16, 0.3, 0.27)), 0x4FA34D),
    (ovals((-0.12, -0.16, 0.2, 0.16)), 0x6ABB5C),
)
GRASS = (
    (polygon([(-0.5, 0), (-0.6, -0.7), (-0.25, -0.2), (-0.1, -1.0), (0.15, -0.2), (0.5, -0.8), (0.5, 0)]), 0x5FAE3C),
)


def _trunk(x: float, width: float, foot: float) -> skia.Path:
    path = skia.Path()
    path.moveTo(x - width * 0.45, 0)
    path.lineTo(x - width * 0.5, foot - 0.1)
    path.quadTo(x - width * 0.55, foot, x - width, foot + 0.02)
    path.lineTo(x + width, foot + 0.02)
    path.quadTo(x + width * 0.55, foot, x + width * 0.5, foot - 0.1)
    path.lineTo(x + width * 0.45, 0)
    path.close()
    return path


def _forest_back(painter: PlacePainter) -> None:
    rng = painter.rng
    painter.gradient(0.0, 0.75, *_GLADE[painter.light], lit=True)
    far = skia.Path()
    for i in range(5):
        far.addPath(_trunk(0.1 + 0.2 * i + rng.uniform(-0.06, 0.06), 0.03, 0.62))
    painter.path(far, 0x7C8F63)
    painter.path(rolling(rng.uniform(0.64, 0.68), rng.uniform(0.62, 0.66), rng.uniform(0.64, 0.68)), 0x86B25C)
    near = skia.Path()
    # Two thick trunks frame the picture, one stands between: characters keep a calm background.
    for x in (rng.uniform(0.03, 0.12), rng.uniform(0.4, 0.6), rng.uniform(0.88, 0.97)):
        near.addPath(_trunk(x, rng.uniform(0.075, 0.1), rng.uniform(0.68, 0.74)))
    painter.path(near, 0x6B4A34)
    leaves = [(0.09 * i, rng.uniform(0.0, 0.07), 0.09, rng.uniform(0.08, 0.13)) for i in range(12)]
    painter.path(ovals(*leaves), 0x2F6B3C)
    for x in (rng.uniform(0.06, 0.3), rng.uniform(0.7, 0.94)):
        painter.stamp(MUSHROOM, x, rng.uniform(0.76, 0.8), 0.045)


def _forest_front(painter: PlacePainter) -> None:
    rng = painter.rng
    painter.stamp(FERN, rng.uniform(0.0, 0.12), 1.01, 0.09)
    painter.stamp(FERN, rng.uniform(0.88, 1.0), 1.01, 0.09)


FOREST = Place(
    name="forest",
    phrases=("in a forest", "in the forest", "in the woods", "among the trees", "in a green forest"),
    back=_forest_back,
    front=_forest_front,
    shadow=0.28,
)


def _meadow_back(painter: PlacePainter) -> None:
    rng = painter.rng
    draw_sky(painter, 0.66, clouds=2)
    a, b = rng.uniform(0.46, 0.58), rng.uniform(0.46, 0.58)
    painter.path(rolling(a, (a + b) / 2 + 0.04, b), 0xA9D989)
    painter.path(rolling(b + 0.1, 0.6, a + 0.1), 0x86C95C)
    tree = rng.uniform(0.12, 0.2)
    x = tree if rng.chance(0.5) else 1 - tree
    painter.stamp(ROUND_TREE, x, rng.uniform(0.38, 0.42), 0.34)
    painter.path(rolling(0.72, rng.uniform(0.68, 0.73), 0.72), 0x9ED64B)
    for colour in (0xFFFFFF, 0xFF8FB1, 0xFFD23F):
        spots = [(rng.uniform(0.02, 0.98), rng.uniform(0.76, 0.98)) for _ in range(5)]
        painter.path(ovals(*((x, y, 0.011 * y + 0.004, 0.011 * y + 0.004) for x, y in spots)), colour, detail=True)


def _meadow_front(painter: PlacePainter) -> None:
    rng = painter.rng
    for _ in range(3):
        painter.stamp(GRASS, rng.uniform(0.03, 0.97), 1.0, 0.05)


MEADOW = Place(
    name="meadow",
    phrases=("in a meadow", "in the meadow", "on a green meadow", "among the flowers", "in a field of flowers"),
    back=_meadow_back,
    front=_meadow_front,
)
