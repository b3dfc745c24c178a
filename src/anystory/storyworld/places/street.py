"""The city street."""

from __future__ import annotations

from anystory.storyworld.places.base import Place
from anystory.storyworld.places.painter import PlacePainter, draw_sky, ovals, polygon, rects

_FRONTS = (0xC9826B, 0x86A9B8, 0xE3CD9C, 0xA68FB5, 0xB8C29A)
LAMP = (
    (rects((-0.03, 0.06, 0.03, 1.0), (-0.09, 0.95, 0.09, 1.0)), 0x3E4658),
    (polygon([(-0.1, 0.08), (0.1, 0.08), (0.07, -0.1), (-0.07, -0.1)]), 0x3E4658),
)
LAMP_LIGHT = ((ovals((0, 0, 0.07, 0.07)), 0xFFE9A3),)


def _house(painter: PlacePainter, x0: float, x1: float, top: float, colour: int) -> None:
    painter.rect(x0, top, x1, 0.72, colour)
    painter.rect(x0 - 0.006, top, x1 + 0.006, top + 0.025, 0xF3EADB)
    columns = 3 if x1 - x0 > 0.2 else 2
    step = (x1 - x0) / columns
    panes = [
        (x0 + step * (i + 0.26), y, x0 + step * (i + 0.74), y + 0.055)
        for i in range(columns)
        for y in (top + 0.06, top + 0.16, top + 0.26, top + 0.36)
        if y < 0.58
    ]
    if painter.light == "day":
        painter.path(rects(*panes), 0xEAF6FB, detail=True)
    else:
        painter.path(rects(*panes), 0xFFDE82, lit=True, detail=True)


def _street_back(painter: PlacePainter) -> None:
    rng = painter.rng
    draw_sky(painter, 0.72, clouds=1)
    skyline = [(0.125 * i, rng.uniform(0.22, 0.4), 0.125 * i + 0.1, 0.7) for i in range(8)]
    painter.path(rects(*skyline), 0xB9C8D8)
    x = -0.04
    for colour in rng.shuffle(_FRONTS)[:4]:
        width = rng.uniform(0.22, 0.3)
        _house(painter, x, x + width, rng.uniform(0.2, 0.38), colour)
        x += width + 0.012
    painter.rect(0, 0.69, 1, 0.8, 0xD3D0D2)
    painter.rect(0, 0.79, 1, 0.805, 0xA6A4AB)
    painter.gradient(0.805, 1.0, 0x6B7080, 0x7C8292)
    start = rng.uniform(-0.1, 0.1)
    painter.path(
        rects(*((start + 0.3 * i, 0.89, start + 0.3 * i + 0.17, 0.915) for i in range(4))), 0xF5F1E4, detail=True
    )
    post = rng.uniform(0.05, 0.1)
    post = post if rng.chance(0.5) else 1 - post
    painter.stamp(LAMP, post, 0.24, 0.54)
    if painter.light != "day":
        painter.halo(post, 0.24, 0.2, 0xFFE9A3, 0.7)
    painter.stamp(LAMP_LIGHT, post, 0.24, 0.54, lit=True)


STREET = Place(
    name="city street",
    phrases=("on a city street", "in the city", "on a street", "on a street in the city", "in a big city"),
    back=_street_back,
    shadow=0.3,
)
