"""Draws a whole character: the order of the layers and where each part is put."""

from __future__ import annotations

from functools import lru_cache

import skia

from anystory.storyworld.appearance import Appearance, Point
from anystory.storyworld.brush import Brush
from anystory.storyworld.characters.bodies import BODIES
from anystory.storyworld.characters.emblems import EMBLEM_LAYERS
from anystory.storyworld.characters.figure import CharacterFigure
from anystory.storyworld.characters.heads.draw import draw_head
from anystory.storyworld.characters.held import HELD_LAYERS
from anystory.storyworld.characters.limbs import draw_arm, draw_legs
from anystory.storyworld.characters.patterns import torso_pattern
from anystory.storyworld.characters.shapes import Layer, Layers
from anystory.storyworld.characters.skeleton import holding_arm, skeleton, to_page
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

_EMBLEM_AT = (0.0, -0.12)
_SIDE_EMBLEM_AT = (-0.08, -0.12)


def draw_character(
    canvas: skia.Canvas, brush: Brush, identity: Identity, appearance: Appearance, *, x: float, y: float, height: float
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
    figure = CharacterFigure(canvas, brush, identity, appearance)
    with skia.AutoCanvasRestore(canvas):
        canvas.translate(x, y)
        canvas.scale(-height if appearance.view == "right" else height, height)
        if figure.bones.roll:
            canvas.translate(*figure.bones.shift)
            canvas.rotate(figure.bones.roll)
        _draw_back(figure) if appearance.view == "back" else _draw_front(figure)


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


_FRONT_WEAR: dict[str, Layers] = {"belt": BELT, "apron": APRON, "backpack": STRAPS}
_BACK_WEAR: dict[str, Layers] = {"belt": BELT[:1], "apron": APRON_BACK, "backpack": PACK_OVER}


def _draw_front(figure: CharacterFigure) -> None:
    """The front, or the side that looks to the left."""
    canvas, identity, side = figure.canvas, figure.identity, figure.bones.side
    holding = holding_arm(figure.appearance)
    if identity.neckwear == "cape":
        _at_neck(figure, CAPE_BACK[side])
    with skia.AutoCanvasRestore(canvas):
        figure.to_torso()
        figure.paint(figure.body.tail)
        if identity.accessory == "backpack":
            figure.paint(PACK_BEHIND[side])
    if side:
        if holding == 0:
            _held(figure, 0)
        draw_arm(figure, 0, far=True)
    seated_front = figure.bones.seated and not side
    if not seated_front:
        draw_legs(figure)
    with skia.AutoCanvasRestore(canvas):
        figure.to_torso()
        figure.paint(_torso_layers(identity.kind, identity.pattern))
        figure.paint(_FRONT_WEAR.get(identity.accessory, ()))
    if identity.emblem != "none" and not figure.brush.is_mask:
        _emblem(figure)
    if seated_front:
        draw_legs(figure)
    if not side:
        draw_arm(figure, 0)
    draw_arm(figure, 1)
    if identity.neckwear != "none":
        _at_neck(figure, NECKWEAR_LAYERS[identity.neckwear], -0.045 if side else 0.0)
    draw_head(figure)
    if holding == 1 or (holding == 0 and not side):
        _held(figure, holding)


def _draw_back(figure: CharacterFigure) -> None:
    """Seen from behind: what is held and the arms are in front of the character, so they come first."""
    identity = figure.identity
    holding = holding_arm(figure.appearance)
    if holding is not None:
        _held(figure, holding)
    draw_arm(figure, 0)
    draw_arm(figure, 1)
    draw_legs(figure)
    with skia.AutoCanvasRestore(figure.canvas):
        figure.to_torso()
        figure.canvas.scale(-1.0, 1.0)
        figure.paint(_torso_layers_behind(identity.kind, identity.pattern))
        figure.paint(_BACK_WEAR.get(identity.accessory, ()))
        if identity.neckwear != "cape":
            figure.paint(figure.body.tail)
    if identity.neckwear == "cape":
        _at_neck(figure, CAPE_OVER)
    if identity.neckwear != "none":
        _at_neck(figure, NECKWEAR_BACK[identity.neckwear])
    draw_head(figure)


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


def _at_neck(figure: CharacterFigure, layers: Layers, dx: float = 0.0) -> None:
    with skia.AutoCanvasRestore(figure.canvas):
        figure.to_neck()
        if dx:
            figure.canvas.translate(dx, 0.0)
        figure.paint(layers)


def _emblem(figure: CharacterFigure) -> None:
    canvas, bones = figure.canvas, figure.bones
    with skia.AutoCanvasRestore(canvas):
        figure.to_hips()
        dx, dy = _SIDE_EMBLEM_AT if bones.side else _EMBLEM_AT
        canvas.translate(dx, dy * bones.torso)
        if figure.appearance.view == "right":
            # a badge is not mirrored when its owner turns round
            canvas.scale(-1.0, 1.0)
        figure.paint(EMBLEM_LAYERS[figure.identity.emblem])


def _held(figure: CharacterFigure, arm: int) -> None:
    """What is held, upright whatever the body does, and the hand once more around it."""
    canvas, body, bones = figure.canvas, figure.body, figure.bones
    hand = bones.arms[arm][2]
    with skia.AutoCanvasRestore(canvas):
        canvas.translate(*hand)
        if bones.roll:
            canvas.rotate(-bones.roll)
        if arm == 0 or bones.side:
            canvas.scale(-1.0, 1.0)
        figure.paint(HELD_LAYERS[figure.appearance.held])
    if body.hand_radius:
        figure.brush.circle(canvas, *hand, body.hand_radius, figure.colours[body.hand], detail=True)
