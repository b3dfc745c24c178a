"""Draws a whole character: the order of the layers and where each part is put."""

from __future__ import annotations

import math
from functools import lru_cache

import skia

from anystory.storyworld.appearance import Appearance, Point
from anystory.storyworld.brush import Brush
from anystory.storyworld.characters.bodies import BODIES, Body
from anystory.storyworld.characters.emblems import EMBLEM_LAYERS
from anystory.storyworld.characters.faces import face_layers
from anystory.storyworld.characters.heads import head_of
from anystory.storyworld.characters.headwear import HATS, OPEN
from anystory.storyworld.characters.look import colours_of
from anystory.storyworld.characters.patterns import skull_pattern, torso_pattern
from anystory.storyworld.characters.shapes import Layer, Layers, paint
from anystory.storyworld.characters.wear import (
    APRON, BELT, CAPE_BACK, CAPE_OVER, NECKWEAR_LAYERS, PACK_BEHIND, PACK_OVER, STRAPS, glasses,
)  # fmt: skip
from anystory.storyworld.identity import Identity
from anystory.storyworld.skeleton import Limb, Skeleton, skeleton, to_page

_SOLE = 0.018
"""The middle of a foot lies so far below the ankle."""
_BARE = ("none", *OPEN)
_SIDE_WIDTH = 0.9
"""Width of a torso seen from the side, against the front."""
_EMBLEM_AT = (0.0, -0.12)
_SIDE_EMBLEM_AT = (-0.08, -0.12)


def draw_character(
    canvas: skia.Canvas,
    brush: Brush,
    identity: Identity,
    appearance: Appearance,
    *,
    x: float,
    y: float,
    height: float,
) -> None:
    """Draws a character.

    Args:
        canvas: anything in its current transformation; left as it was found.
        brush: style and light, or an instance mask. Drawing twice with a style and with `Brush.mask(level, style)`
            gives the picture and the exact mask.
        identity: who.
        appearance: pose, view, expression, what is held, where the hands reach.
        x, y: between the feet, in the current units of the canvas.
        height: from the ground to the crown of the head when standing, without ears and headwear.

    Raises:
        ValueError: a height that is not positive.
    """
    if not height > 0:
        raise ValueError(f"height must be positive, got {height}")
    bones = skeleton(identity.proportions, appearance)
    canvas.save()
    canvas.translate(x, y)
    canvas.scale(-height if appearance.view == "right" else height, height)
    if bones.roll:
        canvas.translate(*bones.shift)
        canvas.rotate(bones.roll)
    if appearance.view == "back":
        _draw_back(canvas, brush, identity, bones)
    else:
        _draw_front(canvas, brush, identity, appearance, bones)
    canvas.restore()


def hand_positions(
    identity: Identity, appearance: Appearance, *, x: float, y: float, height: float
) -> tuple[Point, Point]:
    """The page-left and the page-right hand of `draw_character(..., x=x, y=y, height=height)`."""
    bones = skeleton(identity.proportions, appearance)
    mirror = appearance.view == "right"
    first, second = (to_page(bones, arm[2], mirror) for arm in bones.arms)
    if mirror:
        first, second = second, first
    return (x + first[0] * height, y + first[1] * height), (x + second[0] * height, y + second[1] * height)


def _draw_front(
    canvas: skia.Canvas, brush: Brush, identity: Identity, appearance: Appearance, bones: Skeleton
) -> None:
    colours = colours_of(identity)
    body = BODIES[identity.kind]
    side = bones.side
    boots = identity.accessory == "boots"

    canvas.save()
    _to_neck(canvas, bones)
    if identity.neckwear == "cape":
        paint(canvas, brush, CAPE_BACK[side], colours)
    canvas.restore()
    canvas.save()
    _to_torso(canvas, identity, bones)
    paint(canvas, brush, body.tail, colours)
    if identity.accessory == "backpack":
        paint(canvas, brush, PACK_BEHIND[side], colours)
    canvas.restore()

    if side:
        _arm(canvas, brush, body, colours, bones.arms[0], far=True)
    seated_front = bones.seated and not side
    if not seated_front:
        _legs(canvas, brush, body, colours, bones, boots)

    canvas.save()
    _to_torso(canvas, identity, bones)
    paint(canvas, brush, _torso_layers(identity.kind, identity.pattern), colours)
    if identity.accessory == "belt":
        paint(canvas, brush, BELT, colours)
    elif identity.accessory == "apron":
        paint(canvas, brush, APRON, colours)
    elif identity.accessory == "backpack":
        paint(canvas, brush, STRAPS, colours)
    canvas.restore()
    if identity.emblem != "none" and not brush.is_mask:
        _emblem(canvas, brush, identity, colours, bones, mirror=appearance.view == "right")

    if seated_front:
        _legs(canvas, brush, body, colours, bones, boots)
    if not side:
        _arm(canvas, brush, body, colours, bones.arms[0])
    _arm(canvas, brush, body, colours, bones.arms[1])
    canvas.save()
    _to_neck(canvas, bones)
    if identity.neckwear != "none":
        if side:
            canvas.translate(-0.045, 0.0)
        paint(canvas, brush, NECKWEAR_LAYERS[identity.neckwear], colours)
    canvas.restore()
    _head(canvas, brush, identity, appearance, colours, bones)


def _draw_back(canvas: skia.Canvas, brush: Brush, identity: Identity, bones: Skeleton) -> None:
    del canvas, brush, identity, bones


def _to_torso(canvas: skia.Canvas, identity: Identity, bones: Skeleton) -> None:
    canvas.translate(*bones.hips)
    if bones.lean:
        canvas.rotate(bones.lean)
    canvas.scale(identity.proportions.width * (_SIDE_WIDTH if bones.side else 1.0), bones.torso)


def _to_neck(canvas: skia.Canvas, bones: Skeleton) -> None:
    canvas.translate(*bones.hips)
    if bones.lean:
        canvas.rotate(bones.lean)
    canvas.translate(0.0, -bones.torso * 0.33)


@lru_cache(maxsize=512)
def _torso_layers(kind: str, pattern: str) -> Layers:
    body = BODIES[kind]
    cut = torso_pattern(pattern, body.torso)
    layers = (Layer(body.torso, "primary"), *body.under)
    return layers if cut is None else (*layers, Layer(cut, "secondary", True))


def _emblem(
    canvas: skia.Canvas, brush: Brush, identity: Identity, colours: dict[str, int], bones: Skeleton, *, mirror: bool
) -> None:
    canvas.save()
    canvas.translate(*bones.hips)
    if bones.lean:
        canvas.rotate(bones.lean)
    dx, dy = _SIDE_EMBLEM_AT if bones.side else _EMBLEM_AT
    canvas.translate(dx, dy * bones.torso)
    if mirror:
        canvas.scale(-1.0, 1.0)
    paint(canvas, brush, EMBLEM_LAYERS[identity.emblem], colours)
    canvas.restore()


def _arm(
    canvas: skia.Canvas, brush: Brush, body: Body, colours: dict[str, int], limb: Limb, far: bool = False
) -> None:
    brush.line(canvas, limb, body.arm_width, colours[body.far_arm if far else body.arm])
    if body.hand_radius:
        brush.circle(canvas, *limb[2], body.hand_radius, colours[body.hand])


def _legs(
    canvas: skia.Canvas, brush: Brush, body: Body, colours: dict[str, int], bones: Skeleton, boots: bool
) -> None:
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


def _head(
    canvas: skia.Canvas,
    brush: Brush,
    identity: Identity,
    appearance: Appearance,
    colours: dict[str, int],
    bones: Skeleton,
) -> None:
    canvas.save()
    canvas.translate(*bones.head)
    if bones.head_angle:
        canvas.rotate(bones.head_angle)
    size = identity.proportions.head
    canvas.scale(size, size)
    before, after = _head_layers(
        identity.kind,
        identity.pattern,
        bones.side,
        appearance.expression,
        identity.accessory == "glasses",
        identity.headwear not in _BARE,
    )
    paint(canvas, brush, before, colours)
    beside = identity.headwear in OPEN
    if identity.headwear != "none" and not beside:
        _hat(canvas, brush, identity, colours, bones.side)
    paint(canvas, brush, after, colours)
    if beside:
        _hat(canvas, brush, identity, colours, bones.side)
    canvas.restore()


def _hat(canvas: skia.Canvas, brush: Brush, identity: Identity, colours: dict[str, int], side: bool) -> None:
    x, y, size = head_of(identity.kind, side).crown
    canvas.save()
    if identity.headwear in OPEN:
        canvas.translate(0.13, y + 0.01)
        canvas.rotate(24.0)
    else:
        canvas.translate(x, y)
    canvas.scale(size, size)
    paint(canvas, brush, HATS[identity.headwear], colours)
    canvas.restore()


@lru_cache(maxsize=4096)
def _head_layers(
    kind: str, pattern: str, side: bool, expression: str, glasses_on: bool, hat: bool
) -> tuple[Layers, Layers]:
    """What is drawn of a head before and after the hat."""
    head = head_of(kind, side)
    before = [*head.behind, Layer(head.skull, "primary")]
    if not hat:
        before = [*head.antenna, *before]
    cut = skull_pattern(pattern, head.skull)
    if cut is not None:
        before.append(Layer(cut, "secondary", True))
    before += head.over
    face = [*face_layers(head.face, expression, side)]
    if glasses_on:
        face += glasses(head.face, side)
    if head.top:
        return tuple(before), (*head.top, *face)
    return (*before, *face), ()

