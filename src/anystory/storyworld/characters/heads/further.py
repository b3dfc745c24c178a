"""Heads of the kinds beyond level 1; coordinates as in `head.py`."""

from __future__ import annotations

import math
from collections.abc import Callable

from anystory.storyworld.characters.heads.faces import TURN, Face
from anystory.storyworld.characters.heads.head import Head
from anystory.storyworld.characters.shapes import (
    Layer,
    blob,
    both,
    curve,
    inside,
    join,
    moved,
    oval,
    rounded,
)  # fmt: skip


def _cat(turned: bool) -> Head:
    skull = blob([(-0.14, -0.25), (0.14, -0.25), (0.3, -0.13), (0.33, 0.1), (0.16, 0.26), (-0.16, 0.26),
                  (-0.33, 0.1), (-0.3, -0.13)])  # fmt: skip
    ear = rounded([(0.055, -0.17), (0.215, -0.34), (0.27, -0.05)], 0.04)
    inner = rounded([(0.115, -0.185), (0.2, -0.275), (0.235, -0.12)], 0.02)
    ears, inners = both(ear), both(inner)
    dx = TURN * 1.3 if turned else 0.0
    if turned:
        ears, inners = moved(ears, 0.03, 0.0, 0.9, 1.0), moved(inners, 0.02, 0.0, 0.9, 1.0)
    whiskers = join(
        curve((dx + 0.115, 0.08), (dx + 0.18, 0.065)),
        curve((dx + 0.115, 0.12), (dx + 0.18, 0.13)),
        curve((dx - 0.115, 0.08), (dx - 0.18, 0.065)),
        curve((dx - 0.115, 0.12), (dx - 0.18, 0.13)),
    )
    nose = rounded([(dx - 0.042, 0.055), (dx + 0.042, 0.055), (dx, 0.105)], 0.015)
    over = (
        Layer(join(oval(dx - 0.055, 0.115, 0.07, 0.055), oval(dx + 0.055, 0.115, 0.07, 0.055)), "secondary", True),
        Layer(whiskers, "ink", True, 0.014),
        Layer(nose, "blush", True),
    )
    face = Face(eye_y=-0.04, mouth_y=0.11, mouth_turn=TURN * 1.3)
    return Head(behind=(Layer(ears, "limb"), Layer(inners, "secondary", True)), skull=skull, over=over, face=face)


def _mouse(turned: bool) -> Head:
    skull = blob([(-0.13, -0.24), (0.13, -0.24), (0.28, -0.1), (0.26, 0.12), (0.1, 0.27), (-0.1, 0.27),
                  (-0.26, 0.12), (-0.28, -0.1)])  # fmt: skip
    ears, inners = both(oval(0.245, -0.185, 0.145)), both(oval(0.245, -0.18, 0.095))
    over: list[Layer] = []
    if turned:
        ears, inners = moved(ears, 0.05, 0.0, 0.85, 1.0), moved(inners, 0.04, 0.0, 0.85, 1.0)
        snout = blob([(-0.02, 0.02), (-0.3, 0.06), (-0.39, 0.1), (-0.3, 0.18), (-0.04, 0.22)])
        over = [Layer(snout, "limb"), Layer(oval(-0.345, 0.105, 0.036), "blush")]
    else:
        over = [Layer(oval(0.0, 0.1, 0.042, 0.036), "blush", True)]
    face = Face(eye_y=-0.025, mouth_y=0.145, mouth_turn=-0.19, mouth_width=0.045)
    return Head(
        behind=(Layer(ears, "limb"), Layer(inners, "secondary", True)),
        skull=skull,
        over=tuple(over),
        face=face,
        crown=(0.0, -0.18, 0.85),
    )


def _owl(turned: bool) -> Head:
    skull = blob([(-0.3, -0.32), (-0.1, -0.2), (0.1, -0.2), (0.3, -0.32), (0.31, 0.02), (0.2, 0.25), (-0.2, 0.25),
                  (-0.31, 0.02)])  # fmt: skip
    dx = TURN if turned else 0.0
    narrow = 0.85 if turned else 1.0
    discs = join(oval(dx - 0.105 * narrow, -0.02, 0.125 * narrow, 0.13), oval(dx + 0.105 * narrow, -0.02, 0.125, 0.13))
    over = [Layer(inside(discs, skull), "secondary", True)]
    if turned:
        over.append(Layer(rounded([(-0.16, 0.0), (-0.33, 0.1), (-0.14, 0.11)], 0.02), "beak"))
    else:
        over.append(Layer(rounded([(-0.05, 0.05), (0.05, 0.05), (0.0, 0.15)], 0.02), "beak", True))
    face = Face(eye_x=0.105, eye_y=-0.025, eye_size=1.22, mouth_width=0.0)
    return Head(behind=(), skull=skull, over=tuple(over), face=face, crown=(0.0, -0.17, 0.9))


def _dragon(turned: bool) -> Head:
    skull = oval(0.0, -0.01, 0.255, 0.225)
    horn = rounded([(0.06, -0.17), (0.17, -0.37), (0.19, -0.13)], 0.03)
    horns = moved(both(horn), 0.045, 0.0, 0.85, 1.0) if turned else both(horn)
    frill = both(rounded([(0.2, -0.06), (0.37, -0.1), (0.32, 0.0), (0.37, 0.09), (0.2, 0.09)], 0.025))
    if turned:
        frill = rounded([(0.17, -0.08), (0.36, -0.13), (0.31, -0.01), (0.36, 0.1), (0.17, 0.1)], 0.025)
        snout = blob([(0.02, 0.02), (-0.22, 0.02), (-0.38, 0.03), (-0.4, 0.19), (-0.2, 0.24), (0.04, 0.2)])
        over = (Layer(snout, "secondary"), Layer(oval(-0.32, 0.075, 0.018), "ink", True))
    else:
        snout = oval(0.0, 0.12, 0.17, 0.1)
        nostrils = both(oval(0.065, 0.08, 0.018, 0.022))
        over = (Layer(inside(snout, skull), "secondary", True), Layer(nostrils, "ink", True))
    face = Face(eye_y=-0.055, mouth_y=0.125, mouth_turn=-0.2, mouth_width=0.07)
    return Head(
        behind=(Layer(frill, "dark"), Layer(horns, "accent")),
        skull=skull,
        over=over,
        face=face,
        crown=(0.0, -0.18, 0.8),
    )


def _elephant(turned: bool) -> Head:
    skull = oval(0.0, 0.0, 0.235, 0.235)
    ear = blob([(0.12, -0.2), (0.36, -0.28), (0.48, -0.02), (0.36, 0.2), (0.18, 0.18)])
    inner = moved(ear, 0.055, 0.0, 0.72)
    over: list[Layer] = []
    if turned:
        # one big ear towards us, the trunk out to the left
        trunk = blob([(-0.03, -0.08), (-0.3, -0.04), (-0.34, 0.16), (-0.42, 0.12), (-0.53, 0.06), (-0.53, 0.18),
                      (-0.42, 0.3), (-0.22, 0.28), (-0.14, 0.16)])  # fmt: skip
        near = moved(ear, -0.06, 0.02, 0.95)
        over = [Layer(trunk, "limb"), Layer(near, "limb"), Layer(moved(inner, -0.06, 0.02, 0.95), "secondary", True)]
        behind: tuple[Layer, ...] = ()
    else:
        trunk = blob([(-0.075, 0.0), (0.075, 0.0), (0.075, 0.2), (0.1, 0.33), (-0.05, 0.34), (-0.08, 0.2)])
        wrinkles = join(curve((-0.045, 0.15), (0.045, 0.15)), curve((-0.045, 0.205), (0.05, 0.205)))
        over = [Layer(trunk, "limb"), Layer(wrinkles, "dark", True, 0.016)]
        behind = (Layer(both(ear), "limb"), Layer(both(inner), "secondary", True))
    face = Face(eye_x=0.115, eye_y=-0.055, mouth_width=0.0)
    return Head(behind=behind, skull=skull, over=tuple(over), face=face, crown=(0.0, -0.19, 0.95))


def _snowman(turned: bool) -> Head:
    skull = oval(0.0, 0.0, 0.24, 0.235)
    if turned:
        carrot = rounded([(-0.13, 0.02), (-0.44, 0.08), (-0.13, 0.1)], 0.02)
    else:
        carrot = rounded([(-0.03, 0.025), (-0.03, 0.105), (0.17, 0.085)], 0.02)
    cheeks = both(oval(0.15, 0.1, 0.045, 0.035))
    if turned:
        cheeks = oval(0.06, 0.11, 0.05, 0.035)
    over = (Layer(cheeks, "blush", True), Layer(carrot, "beak", not turned))
    face = Face(eye_x=0.09, eye_y=-0.055, mouth_y=0.135, mouth_turn=-0.1, mouth_width=0.07)
    return Head(behind=(), skull=skull, over=over, face=face)


def _child(turned: bool) -> Head:
    """A child in a hooded suit: the hood is the skull, with a tuft of hair in the secondary colour."""
    skull = oval(0.0, 0.0, 0.262, 0.238)
    dx = TURN if turned else 0.0
    opening = inside(oval(dx, 0.045, 0.2, 0.175), skull)
    fringe = blob([(dx - 0.22, 0.02), (dx - 0.2, -0.15), (dx, -0.2), (dx + 0.2, -0.15), (dx + 0.22, 0.02),
                   (dx + 0.1, -0.09),                    (dx - 0.02, -0.03), (dx - 0.1, -0.09)])  # fmt: skip
    cheeks = join(oval(dx - 0.125, 0.115, 0.035, 0.026), oval(dx + 0.125, 0.115, 0.035, 0.026))
    over = [
        Layer(opening, "skin", True),
        Layer(inside(fringe, opening), "secondary", True),
        Layer(cheeks, "blush", True),
    ]
    if turned:
        over.append(Layer(oval(-0.262, 0.075, 0.034, 0.03), "skin"))
    else:
        over.append(Layer(oval(0.0, 0.085, 0.022, 0.018), "blush", True))
    pompom = (Layer(oval(0.0, -0.245, 0.055), "accent"),)
    face = Face(eye_x=0.085, eye_y=0.01, eye_size=0.9, mouth_y=0.13, mouth_turn=TURN * 1.4)
    return Head(behind=(), skull=skull, over=tuple(over), face=face, antenna=pompom)


def _lion(turned: bool) -> Head:
    dx = 0.035 if turned else 0.0
    locks = [
        oval(dx + 0.245 * math.cos(math.tau * i / 11), -0.005 + 0.225 * math.sin(math.tau * i / 11), 0.095)
        for i in range(11)
    ]
    mane = join(oval(dx, 0.0, 0.26, 0.24), *locks)
    skull = oval(-dx * 0.9, 0.015, 0.215, 0.2)
    ears = both(oval(0.185, -0.165, 0.062))
    dx = -0.1 if turned else 0.0
    nose = rounded([(dx * 1.2 - 0.045, 0.06), (dx * 1.2 + 0.045, 0.06), (dx * 1.2, 0.115)], 0.015)
    over = (Layer(oval(dx, 0.125, 0.11, 0.078), "pale", not turned), Layer(nose, "ink", True))
    face = Face(eye_x=0.088, eye_y=-0.03, eye_size=0.92, mouth_y=0.122, mouth_turn=-0.115)
    return Head(
        behind=(Layer(mane, "secondary"), Layer(ears, "limb")),
        skull=skull,
        over=over,
        face=face,
        crown=(0.0, -0.19, 1.0),
    )


FURTHER: dict[str, Callable[[bool], Head]] = {
    "cat": _cat,
    "mouse": _mouse,
    "owl": _owl,
    "dragon": _dragon,
    "elephant": _elephant,
    "snowman": _snowman,
    "child": _child,
    "lion": _lion,
}
"""Kind -> the head from the front, or (True) looking to the left."""
