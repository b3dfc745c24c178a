"""Arms, legs and feet along the bones of a skeleton."""

from __future__ import annotations

import math

import skia

from anystory.storyworld.brush import Brush
from anystory.storyworld.characters.figure import CharacterFigure
from anystory.storyworld.characters.skeleton import Limb

_SOLE = 0.018
"""How far the middle of a foot lies below the ankle."""


def draw_arm(figure: CharacterFigure, arm: int, *, far: bool = False) -> None:
    """An arm of the skeleton with its hand."""
    brush, canvas, body, limb = figure.brush, figure.canvas, figure.body, figure.bones.arms[arm]
    brush.line(canvas, limb, body.arm_width, figure.colours[body.far_arm if far else body.arm])
    if body.hand_radius:
        brush.circle(canvas, *limb[2], body.hand_radius, figure.colours[body.hand])


def draw_legs(figure: CharacterFigure) -> None:
    """Both legs with feet or boots; a seated character shows us its soles."""
    brush, canvas, body, bones, colours = figure.brush, figure.canvas, figure.body, figure.bones, figure.colours
    for i, limb in enumerate(bones.legs):
        far = bones.side and i == 0
        leg, foot = (body.far_leg, body.far_foot) if far else (body.leg, body.foot)
        brush.line(canvas, limb, body.leg_width, colours[leg])
        colour = colours[foot]
        _, knee, ankle = limb
        size = body.foot_length
        if figure.identity.accessory == "boots":
            colour = colours["extra dark" if far else "extra"]
            shin = (ankle[0] * 0.45 + knee[0] * 0.55, ankle[1] * 0.45 + knee[1] * 0.55)
            brush.line(canvas, (shin, ankle), max(body.leg_width, 0.11) + 0.02, colour)
            size = max(size, 0.095)
        if bones.seated and not bones.side:
            brush.oval(canvas, ankle[0], ankle[1] - 0.01, size * 0.8, size * 0.92, colour)
        elif bones.side:
            _side_foot(canvas, brush, limb, size, colour)
        else:
            out = -0.018 if i == 0 else 0.018
            brush.oval(canvas, ankle[0] + out, ankle[1] + _SOLE, size, 0.052, colour)


def _side_foot(canvas: skia.Canvas, brush: Brush, limb: Limb, size: float, colour: int) -> None:
    """A foot at a right angle to the shin, toes forwards (to the left)."""
    (kx, ky), (ax, ay) = limb[1], limb[2]
    with skia.AutoCanvasRestore(canvas):
        canvas.translate(ax, ay)
        canvas.rotate(math.degrees(math.atan2(kx - ax, ay - ky)) * 0.9)
        brush.oval(canvas, -0.034, _SOLE, size, 0.05, colour)
