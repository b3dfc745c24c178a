"""Things in a hand. The hand is (0, 0), the page's up is up; a thing in the page-left hand is mirrored."""

from __future__ import annotations

from anystory.storyworld.characters.shapes import (
    Layer,
    Layers,
    blob,
    box,
    curve,
    inside,
    join,
    oval,
    poly,
    rounded,
    star,
)  # fmt: skip
from anystory.storyworld.palette import INK, LEAF, METAL, PAPER, WOOD

_RED, _YELLOW, _BLUE = 0xE2363B, 0xFFD23C, 0x2F6FE0


def _balloon() -> Layers:
    knot = poly([(0.11, -0.5), (0.17, -0.5), (0.14, -0.55)])
    return (
        Layer(curve((0.0, 0.0), (0.0, -0.25), (0.14, -0.5)), INK, False, 0.016),
        Layer(knot, 0xB82A35),
        Layer(oval(0.15, -0.69, 0.145, 0.17, 8.0), _RED),
        Layer(oval(0.1, -0.75, 0.03, 0.05, 25.0), 0xF59A9A, True),
    )


def _flower() -> Layers:
    petals = star(6, 0.14, 0.085, 0.05, -0.3)
    return (
        Layer(curve((0.0, 0.06), (0.0, -0.1), (0.05, -0.28)), LEAF, False, 0.03),
        Layer(oval(0.06, -0.08, 0.06, 0.028, -35.0), LEAF),
        Layer(petals, 0xF77FB4),
        Layer(oval(0.05, -0.3, 0.055), _YELLOW, True),
    )


def _ball() -> Layers:
    ball = oval(0.05, 0.0, 0.135)
    wedges = join(
        blob([(0.05, -0.2), (0.16, -0.14), (0.16, 0.14), (0.05, 0.2), (0.02, 0.0)]),
        blob([(-0.12, -0.1), (-0.03, -0.12), (-0.03, 0.12), (-0.12, 0.1)]),
    )
    return (Layer(ball, PAPER), Layer(inside(wedges, ball), _RED, True), Layer(oval(0.03, -0.075, 0.03), _YELLOW, True))


def _book() -> Layers:
    return (
        Layer(box(-0.1, -0.13, 0.14, 0.13, 0.02), 0x7A3FA0),
        Layer(box(-0.065, -0.105, 0.125, 0.105, 0.01), PAPER, True),
        Layer(box(-0.075, -0.13, 0.14, 0.105, 0.02), 0x9A5CC4, True),
        Layer(star(5, 0.06, 0.028, 0.035, -0.01), _YELLOW, True),
    )


def _umbrella() -> Layers:
    canopy = blob([(-0.3, -0.56), (-0.26, -0.78), (0.1, -0.98), (0.46, -0.78), (0.5, -0.56), (0.36, -0.6),
                   (0.23, -0.55),                    (0.1, -0.6), (-0.03, -0.55), (-0.16, -0.6)])  # fmt: skip
    gore = inside(blob([(0.1, -1.1), (0.26, -0.8), (0.22, -0.4), (-0.02, -0.4), (-0.06, -0.8)]), canopy)
    return (
        Layer(curve((0.0, 0.05), (0.1, -0.9)), WOOD, False, 0.028),
        Layer(canopy, _BLUE),
        Layer(gore, 0x9CC3F7, True),
    )


def _lantern() -> Layers:
    return (
        Layer(curve((-0.06, 0.1), (0.0, -0.04), (0.06, 0.1)), METAL, False, 0.02),
        Layer(rounded([(-0.09, 0.1), (0.09, 0.1), (0.075, 0.31), (-0.075, 0.31)], 0.03), 0x5A4B58),
        Layer(box(-0.052, 0.135, 0.052, 0.275, 0.025), 0xFFE48A, True),
        Layer(oval(0.0, 0.215, 0.028, 0.042), 0xFFB43C, True),
    )


HELD_LAYERS: dict[str, Layers] = {
    "balloon": _balloon(),
    "flower": _flower(),
    "ball": _ball(),
    "book": _book(),
    "umbrella": _umbrella(),
    "lantern": _lantern(),
}
