"""Puts a head on the neck: ears, skull, pattern, face, glasses, hat."""

from __future__ import annotations

from functools import lru_cache

import skia

from anystory.storyworld.characters.figure import CharacterFigure
from anystory.storyworld.characters.heads.faces import face_layers
from anystory.storyworld.characters.heads.further import FURTHER
from anystory.storyworld.characters.heads.head import Head
from anystory.storyworld.characters.heads.headwear import HATS, OPEN
from anystory.storyworld.characters.heads.level1 import LEVEL1
from anystory.storyworld.characters.patterns import skull_pattern
from anystory.storyworld.characters.shapes import Layer, Layers
from anystory.storyworld.characters.wear import glasses

_HEADS = LEVEL1 | FURTHER
_BARE = ("none", *OPEN)
_FACE_PATTERNS = ("patches",)
"""Patterns that mark the face only."""


def draw_head(figure: CharacterFigure) -> None:
    """The head in any view; "right" is mirrored by the caller."""
    canvas, identity, bones = figure.canvas, figure.identity, figure.bones
    expression, glasses_on = figure.appearance.expression, identity.accessory == "glasses"
    back = figure.appearance.view == "back"
    bare, beside = identity.headwear in _BARE, identity.headwear in OPEN
    if back:
        before, after = _layers_behind(identity.kind, identity.pattern, bare)
    else:
        before, after = _layers(identity.kind, identity.pattern, bones.side, expression, glasses_on, bare)
    with skia.AutoCanvasRestore(canvas):
        canvas.translate(*bones.head)
        if bones.head_angle:
            canvas.rotate(bones.head_angle)
        size = identity.proportions.head
        canvas.scale(-size if back else size, size)
        figure.paint(before)
        if identity.headwear != "none" and not beside:
            _hat(figure)
        figure.paint(after)
        if beside:
            _hat(figure)


def eyes_glow(kind: str) -> bool:
    """Whether a kind has light eyes on a dark screen, and no pupils."""
    return _head(kind, turned=False).face.glowing


def _hat(figure: CharacterFigure) -> None:
    canvas, headwear = figure.canvas, figure.identity.headwear
    x, y, size = _head(figure.identity.kind, figure.bones.side).crown
    with skia.AutoCanvasRestore(canvas):
        if headwear in OPEN:
            canvas.translate(0.13, y + 0.01)
            canvas.rotate(24.0)
        else:
            canvas.translate(x, y)
        canvas.scale(size, size)
        figure.paint(HATS[headwear])


@lru_cache(maxsize=64)
def _head(kind: str, turned: bool) -> Head:
    """The head of a kind from the front, or looking to the left."""
    return _HEADS[kind](turned)


@lru_cache(maxsize=4096)
def _layers(
    kind: str, pattern: str, side: bool, expression: str, glasses_on: bool, bare: bool
) -> tuple[Layers, Layers]:
    """What is drawn of a head before and after the hat."""
    head = _head(kind, side)
    before = [*head.behind, Layer(head.skull, "primary")]
    if bare:
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


@lru_cache(maxsize=512)
def _layers_behind(kind: str, pattern: str, bare: bool) -> tuple[Layers, Layers]:
    """The same from behind: no face, and ears without their insides."""
    head = _head(kind, False)
    before = [layer for layer in head.behind if not layer.detail]
    if bare:
        before = [*head.antenna, *before]
    before.append(Layer(head.skull, "primary"))
    cut = None if pattern in _FACE_PATTERNS else skull_pattern(pattern, head.skull)
    if cut is not None:
        before.append(Layer(cut, "secondary", True))
    return tuple(before), head.top
