"""Puts a head on the neck: ears, skull, pattern, face, glasses, hat."""

from __future__ import annotations

from functools import lru_cache

import skia

from anystory.storyworld.appearance import Appearance
from anystory.storyworld.brush import Brush
from anystory.storyworld.characters.faces import face_layers
from anystory.storyworld.characters.heads import head_of
from anystory.storyworld.characters.headwear import HATS, OPEN
from anystory.storyworld.characters.patterns import skull_pattern
from anystory.storyworld.characters.shapes import Layer, Layers, paint
from anystory.storyworld.characters.wear import glasses
from anystory.storyworld.identity import Identity
from anystory.storyworld.skeleton import Skeleton

_BARE = ("none", *OPEN)
_FACE_PATTERNS = ("patches",)
"""Patterns that mark the face only."""


def draw_head(
    canvas: skia.Canvas,
    brush: Brush,
    identity: Identity,
    appearance: Appearance,
    colours: dict[str, int],
    bones: Skeleton,
) -> None:
    """The head in any view; "right" is mirrored by the caller."""
    back = appearance.view == "back"
    bare = identity.headwear in _BARE
    if back:
        before, after = _layers_behind(identity.kind, identity.pattern, bare)
    else:
        before, after = _layers(
            identity.kind,
            identity.pattern,
            bones.side,
            appearance.expression,
            identity.accessory == "glasses",
            bare,
        )
    canvas.save()
    canvas.translate(*bones.head)
    if bones.head_angle:
        canvas.rotate(bones.head_angle)
    size = identity.proportions.head
    canvas.scale(-size if back else size, size)
    beside = identity.headwear in OPEN
    paint(canvas, brush, before, colours)
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
def _layers(
    kind: str, pattern: str, side: bool, expression: str, glasses_on: bool, bare: bool
) -> tuple[Layers, Layers]:
    """What is drawn of a head before and after the hat."""
    head = head_of(kind, side)
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
    head = head_of(kind, False)
    before = [layer for layer in head.behind if not layer.detail]
    if bare:
        before = [*head.antenna, *before]
    before.append(Layer(head.skull, "primary"))
    cut = None if pattern in _FACE_PATTERNS else skull_pattern(pattern, head.skull)
    if cut is not None:
        before.append(Layer(cut, "secondary", True))
    return tuple(before), head.top
