"""Arms, legs and feet along the bones of a skeleton, and the frames of torso and neck."""

from __future__ import annotations

import math

import skia

from anystory.storyworld.brush import Brush
from anystory.storyworld.characters.bodies import Body
from anystory.storyworld.identity import Identity
from anystory.storyworld.skeleton import TORSO, Limb, Skeleton

_SOLE = 0.018
"""The middle of a foot lies so far below the ankle."""
_SIDE_WIDTH = 0.9
"""Width of a torso seen from the side, against the front."""


def to_torso(canvas: skia.Canvas, identity: Identity, bones: Skeleton) -> None:
    """Moves the canvas to torso coordinates: hips at (0, 0), scaled to the build."""
    canvas.translate(*bones.hips)
    if bones.lean:
        canvas.rotate(bones.lean)
    canvas.scale(identity.proportions.width * (_SIDE_WIDTH if bones.side else 1.0), bones.torso)


def to_neck(canvas: skia.Canvas, bones: Skeleton) -> None:
    """Moves the canvas to neck coordinates: the neck at (0, 0), not scaled."""
    canvas.translate(*bones.hips)
    if bones.lean:
        canvas.rotate(bones.lean)
    canvas.translate(0.0, -bones.torso * TORSO)


def draw_arm(
    canvas: skia.Canvas, brush: Brush, body: Body, colours: dict[str, int], limb: Limb, *, far: bool = False
) -> None:
    """An arm with its hand."""
    brush.line(canvas, limb, body.arm_width, colours[body.far_arm if far else body.arm])
    if body.hand_radius:
        brush.circle(canvas, *limb[2], body.hand_radius, colours[body.hand])


def draw_legs(
    canvas: skia.Canvas, brush: Brush, body: Body, colours: dict[str, int], bones: Skeleton, *, boots: bool
) -> None:
    """Both legs with feet or boots; a seated character shows us its soles."""
    side = bones.side
    for i, limb in enumerate(bones.legs):
        far = side and i == 0
        leg, foot = (body.far_leg, body.far_foot) if far else (body.leg, body.foot)
        width = body.leg_width
        brush.line(canvas, limb, width, colours[leg])
        colour = colours[foot]
        ankle = limb[2]
        size = body.foot_length
        if boots:
            colour = colours["extra dark" if far else "extra"]
            knee = limb[1]
            shin = (ankle[0] * 0.45 + knee[0] * 0.55, ankle[1] * 0.45 + knee[1] * 0.55)
            brush.line(canvas, (shin, ankle), max(width, 0.11) + 0.02, colour)
            size = max(size, 0.095)
        if bones.seated and not side:
            brush.oval(canvas, ankle[0], ankle[1] - 0.01, size * 0.8, size * 0.92, colour)
        elif side:
            _side_foot(canvas, brush, limb, size, colour)
        else:
            out = -0.018 if i == 0 else 0.018
            brush.oval(canvas, ankle[0] + out, ankle[1] + _SOLE, size, 0.052, colour)


def _side_foot(canvas: skia.Canvas, brush: Brush, limb: Limb, size: float, colour: int) -> None:
    """A foot at a right angle to the shin, toes forwards (to the left)."""
    (kx, ky), (ax, ay) = limb[1], limb[2]
    canvas.save()
    canvas.translate(ax, ay)
    canvas.rotate(math.degrees(math.atan2(kx - ax, ay - ky)) * 0.9)
    brush.oval(canvas, -0.034, _SOLE, size, 0.05, colour)
    canvas.restore()
