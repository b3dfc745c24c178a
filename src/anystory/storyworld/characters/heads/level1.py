"""Heads of the kinds of level 1; coordinates as in `head.py`.

The pixels of this file are frozen: the embedded model was trained on them.
"""

from __future__ import annotations

from collections.abc import Callable

from anystory.storyworld.characters.heads.faces import TURN, Face
from anystory.storyworld.characters.heads.head import Head
from anystory.storyworld.characters.shapes import (
    Layer,
    blob,
    both,
    box,
    curve,
    inside,
    join,
    moved,
    oval,
    rounded,
)  # fmt: skip


def _fox(turned: bool) -> Head:
    skull = blob([
        (-0.12, -0.26), (0.12, -0.26), (0.27, -0.14), (0.26, 0.0), (0.36, 0.13), (0.14, 0.19), (0.05, 0.27),
        (-0.05, 0.27), (-0.14, 0.19), (-0.36, 0.13), (-0.26, 0.0), (-0.27, -0.14),
    ])  # fmt: skip
    ear = rounded([(0.04, -0.18), (0.235, -0.41), (0.27, -0.06)], 0.035)
    inner = rounded([(0.115, -0.19), (0.215, -0.335), (0.235, -0.13)], 0.03)
    dx = TURN if turned else 0.0
    cheeks = inside(join(oval(-0.2 + dx, 0.15, 0.17, 0.115), oval(0.2 + dx, 0.15, 0.17, 0.115)), skull)
    over = [Layer(cheeks, "secondary", True)]
    if turned:
        snout = blob([(-0.06, 0.03), (-0.3, 0.05), (-0.4, 0.08), (-0.38, 0.15), (-0.2, 0.22), (-0.04, 0.18)])
        over += [Layer(snout, "secondary"), Layer(oval(-0.365, 0.085, 0.036, 0.032), "ink")]
    else:
        over += [Layer(oval(0.0, 0.105, 0.042, 0.034), "ink", True)]
    ears = moved(both(ear), 0.03 if turned else 0.0, 0.0, 0.9 if turned else 1.0, 1.0)
    inners = moved(both(inner), 0.02 if turned else 0.0, 0.0, 0.9 if turned else 1.0, 1.0)
    face = Face(eye_y=-0.025, mouth_y=0.165, mouth_turn=-0.22, mouth_width=0.045)
    return Head(behind=(Layer(ears, "limb"), Layer(inners, "ink", True)), skull=skull, over=tuple(over), face=face)


def _bear(turned: bool) -> Head:
    skull = oval(0.0, 0.0, 0.265, 0.232)
    dx = -0.12 if turned else 0.0
    ears = both(oval(0.195, -0.175, 0.092))
    inner = both(oval(0.195, -0.175, 0.052))
    if turned:
        ears, inner = moved(ears, 0.035, 0.0, 0.9, 1.0), moved(inner, 0.025, 0.0, 0.9, 1.0)
    over = (
        Layer(oval(dx * 1.1, 0.115, 0.125, 0.1), "secondary", not turned),
        Layer(oval(dx * 1.35, 0.062, 0.045, 0.034), "ink", True),
    )
    face = Face(eye_y=-0.045, mouth_y=0.13, mouth_turn=-0.15)
    return Head(behind=(Layer(ears, "limb"), Layer(inner, "secondary", True)), skull=skull, over=over, face=face)


def _rabbit(turned: bool) -> Head:
    skull = blob([
        (-0.13, -0.25), (0.13, -0.25), (0.26, -0.12), (0.3, 0.1), (0.14, 0.26), (-0.14, 0.26), (-0.3, 0.1),
        (-0.26, -0.12),
    ])  # fmt: skip
    ears = both(oval(0.115, -0.37, 0.072, 0.2, 9.0))
    inner = both(oval(0.118, -0.36, 0.036, 0.145, 9.0))
    if turned:
        ears, inner = moved(ears, 0.05, 0.0, 0.8, 1.0), moved(inner, 0.045, 0.0, 0.8, 1.0)
    dx = -0.13 if turned else 0.0
    over = (
        Layer(join(oval(dx - 0.055, 0.115, 0.075, 0.06), oval(dx + 0.055, 0.115, 0.075, 0.06)), "pale", True),
        Layer(box(dx - 0.032, 0.13, dx + 0.032, 0.2, 0.012), "paper", True),
        Layer(oval(dx, 0.07, 0.034, 0.026), "ink", True),
    )
    face = Face(eye_y=-0.035, mouth_y=0.118, mouth_turn=-0.13, mouth_width=0.06)
    return Head(
        behind=(Layer(ears, "limb"), Layer(inner, "secondary", True)),
        skull=skull,
        over=over,
        face=face,
        crown=(0.0, -0.17, 0.92),
    )


def _robot(turned: bool) -> Head:
    skull = box(-0.26, -0.22, 0.26, 0.22, 0.06)
    bolts = both(box(0.24, -0.07, 0.31, 0.08, 0.02))
    if turned:
        bolts = box(0.02, -0.07, 0.1, 0.08, 0.02)
    dx = -0.055 if turned else 0.0
    screen = box(-0.2 + dx, -0.135, 0.2 + dx * 0.3, 0.165, 0.05)
    antenna = (
        Layer(curve((0.0, -0.2), (0.0, -0.36)), "metal", False, 0.035),
        Layer(oval(0.0, -0.385, 0.055), "accent"),
    )
    # from the side the bolt sits on the visible cheek
    behind = () if turned else (Layer(bolts, "metal"),)
    over = (Layer(screen, 0x27304F, True),)
    if turned:
        over += (Layer(box(0.19, -0.07, 0.29, 0.08, 0.02), "metal"),)
    face = Face(eye_x=0.095, eye_y=-0.025, eye_size=0.9, mouth_y=0.085, mouth_width=0.07, glowing=True)
    return Head(behind=behind, skull=skull, over=over, face=face, crown=(0.0, -0.19, 1.0), antenna=antenna)


def _penguin(turned: bool) -> Head:
    skull = oval(0.0, 0.0, 0.255, 0.235)
    dx = -0.08 if turned else 0.0
    mask = inside(
        join(oval(-0.105 + dx, -0.01, 0.115, 0.135), oval(0.105 + dx, -0.01, 0.115, 0.135), oval(dx, 0.1, 0.18, 0.12)),
        skull,
    )
    if turned:
        beak = rounded([(-0.14, 0.0), (-0.42, 0.07), (-0.14, 0.13)], 0.025)
        over = (Layer(mask, "paper", True), Layer(beak, "beak"))
    else:
        beak = rounded([(-0.085, 0.045), (0.0, 0.02), (0.085, 0.045), (0.0, 0.15)], 0.025)
        over = (Layer(mask, "paper", True), Layer(beak, "beak", True))
    return Head(behind=(), skull=skull, over=over, face=Face(eye_x=0.095, eye_y=-0.03, mouth_width=0.0))


def _frog(turned: bool) -> Head:
    skull = oval(0.0, 0.03, 0.29, 0.2)
    dx = TURN if turned else 0.0
    jaw = inside(oval(dx, 0.2, 0.27, 0.13), skull)
    bulges = join(oval(-0.145 + dx * 0.8, -0.15, 0.1), oval(0.145 + dx * 0.8, -0.15, 0.1))
    face = Face(eye_x=0.145, eye_y=-0.155, eye_size=1.12, mouth_y=0.075, mouth_turn=TURN * 1.2, mouth_width=0.16)
    return Head(
        behind=(),
        skull=skull,
        over=(Layer(jaw, "secondary", True),),
        face=face,
        crown=(0.0, -0.13, 0.85),
        top=(Layer(bulges, "limb"),),
    )


LEVEL1: dict[str, Callable[[bool], Head]] = {
    "fox": _fox,
    "bear": _bear,
    "rabbit": _rabbit,
    "robot": _robot,
    "penguin": _penguin,
    "frog": _frog,
}
"""Kind -> the head from the front, or (True) looking to the left."""
