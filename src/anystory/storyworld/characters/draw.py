"""Draws a whole character: the order of the layers and where each part is put."""

from __future__ import annotations

from functools import lru_cache

import skia

from anystory.storyworld.appearance import Appearance, Point
from anystory.storyworld.brush import Brush
from anystory.storyworld.characters.bodies import BODIES, Body
from anystory.storyworld.characters.draw_head import draw_head
from anystory.storyworld.characters.emblems import EMBLEM_LAYERS
from anystory.storyworld.characters.held import HELD_LAYERS
from anystory.storyworld.characters.limbs import draw_arm, draw_legs, to_neck, to_torso
from anystory.storyworld.characters.look import colours_of
from anystory.storyworld.characters.patterns import torso_pattern
from anystory.storyworld.characters.shapes import Layer, Layers, paint
from anystory.storyworld.characters.wear import (
    APRON,
    APRON_BACK,
    BELT,
    CAPE_BACK,
    CAPE_OVER,
    NECKWEAR_BACK,
    NECKWEAR_LAYERS,
    PACK_BEHIND,
    PACK_OVER,
    STRAPS,
)  # fmt: skip
from anystory.storyworld.identity import Identity
from anystory.storyworld.skeleton import Skeleton, holding_arm, skeleton, to_page

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
        brush: style and light, or an instance mask. Drawing twice with a style and with
            `Brush.mask(level, style)` gives the picture and the exact mask.
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
    draw = _draw_back if appearance.view == "back" else _draw_front
    draw(canvas, brush, identity, appearance, bones)
    canvas.restore()


def hand_positions(
    identity: Identity, appearance: Appearance, *, x: float, y: float, height: float
) -> tuple[Point, Point]:
    """The page-left and the page-right hand of `draw_character(..., x=x, y=y, height=height)`.

    From the side these are the far and the near hand, in the order that `Appearance.reach` has.
    """
    bones = skeleton(identity.proportions, appearance)
    mirror = appearance.view == "right"
    first, second = (to_page(bones, arm[2], mirror) for arm in bones.arms)
    if mirror:
        first, second = second, first
    return (x + first[0] * height, y + first[1] * height), (x + second[0] * height, y + second[1] * height)


def _draw_front(canvas: skia.Canvas, brush: Brush, identity: Identity, appearance: Appearance, bones: Skeleton) -> None:
    """The front, or the side that looks to the left."""
    colours = colours_of(identity)
    body = BODIES[identity.kind]
    side = bones.side
    boots = identity.accessory == "boots"

    if identity.neckwear == "cape":
        _at_neck(canvas, brush, CAPE_BACK[side], colours, bones)
    canvas.save()
    to_torso(canvas, identity, bones)
    paint(canvas, brush, body.tail, colours)
    if identity.accessory == "backpack":
        paint(canvas, brush, PACK_BEHIND[side], colours)
    canvas.restore()

    holding = holding_arm(appearance)
    if side:
        if holding == 0:
            _held(canvas, brush, body, appearance, colours, bones, 0)
        draw_arm(canvas, brush, body, colours, bones.arms[0], far=True)
    seated_front = bones.seated and not side
    if not seated_front:
        draw_legs(canvas, brush, body, colours, bones, boots=boots)

    canvas.save()
    to_torso(canvas, identity, bones)
    paint(canvas, brush, _torso_layers(identity.kind, identity.pattern), colours)
    paint(canvas, brush, _FRONT_WEAR.get(identity.accessory, ()), colours)
    canvas.restore()
    if identity.emblem != "none" and not brush.is_mask:
        _emblem(canvas, brush, identity, colours, bones, mirror=appearance.view == "right")

    if seated_front:
        draw_legs(canvas, brush, body, colours, bones, boots=boots)
    if not side:
        draw_arm(canvas, brush, body, colours, bones.arms[0])
    draw_arm(canvas, brush, body, colours, bones.arms[1])
    if identity.neckwear != "none":
        _at_neck(canvas, brush, NECKWEAR_LAYERS[identity.neckwear], colours, bones, -0.045 if side else 0.0)
    draw_head(canvas, brush, identity, appearance, colours, bones)
    if holding == 1 or (holding == 0 and not side):
        _held(canvas, brush, body, appearance, colours, bones, holding)


_FRONT_WEAR: dict[str, Layers] = {"belt": BELT, "apron": APRON, "backpack": STRAPS}
_BACK_WEAR: dict[str, Layers] = {"belt": BELT[:1], "apron": APRON_BACK, "backpack": PACK_OVER}


def _draw_back(canvas: skia.Canvas, brush: Brush, identity: Identity, appearance: Appearance, bones: Skeleton) -> None:
    """Seen from behind: what is held and the arms are in front of the character, so they come first."""
    colours = colours_of(identity)
    body = BODIES[identity.kind]
    holding = holding_arm(appearance)
    if holding is not None:
        _held(canvas, brush, body, appearance, colours, bones, holding)
    draw_arm(canvas, brush, body, colours, bones.arms[0])
    draw_arm(canvas, brush, body, colours, bones.arms[1])
    draw_legs(canvas, brush, body, colours, bones, boots=identity.accessory == "boots")
    canvas.save()
    to_torso(canvas, identity, bones)
    canvas.scale(-1.0, 1.0)
    paint(canvas, brush, _torso_layers_behind(identity.kind, identity.pattern), colours)
    paint(canvas, brush, _BACK_WEAR.get(identity.accessory, ()), colours)
    if identity.neckwear != "cape":
        paint(canvas, brush, body.tail, colours)
    canvas.restore()
    if identity.neckwear == "cape":
        _at_neck(canvas, brush, CAPE_OVER, colours, bones)
    if identity.neckwear != "none":
        _at_neck(canvas, brush, NECKWEAR_BACK[identity.neckwear], colours, bones)
    draw_head(canvas, brush, identity, appearance, colours, bones)


@lru_cache(maxsize=512)
def _torso_layers(kind: str, pattern: str) -> Layers:
    body = BODIES[kind]
    cut = torso_pattern(pattern, body.torso)
    layers = (Layer(body.torso, "primary"), *body.under)
    return layers if cut is None else (*layers, Layer(cut, "secondary", True))


@lru_cache(maxsize=512)
def _torso_layers_behind(kind: str, pattern: str) -> Layers:
    torso = BODIES[kind].torso
    cut = None if pattern == "belly" else torso_pattern(pattern, torso)
    layers = (Layer(torso, "primary"),)
    return layers if cut is None else (*layers, Layer(cut, "secondary", True))


def _at_neck(
    canvas: skia.Canvas,
    brush: Brush,
    layers: Layers,
    colours: dict[str, int],
    bones: Skeleton,
    dx: float = 0.0,
) -> None:
    canvas.save()
    to_neck(canvas, bones)
    if dx:
        canvas.translate(dx, 0.0)
    paint(canvas, brush, layers, colours)
    canvas.restore()


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
        # a badge is not mirrored when its owner turns round
        canvas.scale(-1.0, 1.0)
    paint(canvas, brush, EMBLEM_LAYERS[identity.emblem], colours)
    canvas.restore()


def _held(
    canvas: skia.Canvas,
    brush: Brush,
    body: Body,
    appearance: Appearance,
    colours: dict[str, int],
    bones: Skeleton,
    arm: int,
) -> None:
    """What is held, upright whatever the body does, and the hand once more around it."""
    hand = bones.arms[arm][2]
    canvas.save()
    canvas.translate(*hand)
    if bones.roll:
        canvas.rotate(-bones.roll)
    if arm == 0 or bones.side:
        canvas.scale(-1.0, 1.0)
    paint(canvas, brush, HELD_LAYERS[appearance.held], colours)
    canvas.restore()
    if body.hand_radius:
        brush.circle(canvas, *hand, body.hand_radius, colours[body.hand], detail=True)
