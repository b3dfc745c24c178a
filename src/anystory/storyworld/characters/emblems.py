"""Emblems: the badge on the chest."""

from __future__ import annotations

import math

import skia

from anystory.storyworld.characters.shapes import (
    Layer,
    Layers,
    blob,
    box,
    inside,
    join,
    moved,
    oval,
    poly,
    rounded,
    star,
)  # fmt: skip


def _heart() -> skia.Path:
    path = skia.Path()
    path.moveTo(0.0, 0.95)
    path.cubicTo(-1.5, -0.1, -0.95, -1.2, 0.0, -0.45)
    path.cubicTo(0.95, -1.2, 1.5, -0.1, 0.0, 0.95)
    path.close()
    return path


def _moon() -> skia.Path:
    path = skia.Op(oval(-0.05, 0.0, 0.95), oval(0.42, -0.2, 0.75), skia.PathOp.kDifference_PathOp)
    assert path is not None, "skia could not subtract two circles"
    return path


def _flower() -> skia.Path:
    petals = [oval(0.58 * math.sin(math.tau * i / 5), -0.58 * math.cos(math.tau * i / 5), 0.42) for i in range(5)]
    return join(oval(0.0, 0.0, 0.5), *petals)


def _sun() -> skia.Path:
    return star(10, 1.05, 0.66)


_SHAPES: dict[str, skia.Path] = {
    "star": star(5, 1.12, 0.5, 0.0, 0.08),
    "heart": _heart(),
    "moon": _moon(),
    "flower": _flower(),
    "sun": _sun(),
    "bolt": poly([(0.25, -1.1), (-0.7, 0.2), (-0.08, 0.2), (-0.3, 1.1), (0.7, -0.25), (0.08, -0.25)]),
    "drop": blob([(0.0, -1.5), (0.35, -0.4), (0.95, 0.45), (0.5, 1.1), (-0.5, 1.1), (-0.95, 0.45), (-0.35, -0.4)]),
    "leaf": blob([(0.9, -1.2), (0.95, 0.4), (0.2, 1.0), (-0.9, 1.25), (-1.0, -0.2), (-0.3, -0.9)]),
    "diamond": rounded([(0.0, -1.1), (0.85, 0.0), (0.0, 1.1), (-0.85, 0.0)], 0.15),
}
_CENTRES: dict[str, skia.Path] = {
    "flower": oval(0.0, 0.0, 0.36),
    "sun": oval(0.0, 0.0, 0.42),
    "leaf": inside(box(-2.0, -0.09, 2.0, 0.09), oval(0.0, 0.0, 0.62)),
}
_SIZE = 0.08
_BORDER = 0.035


def emblem_layers(emblem: str) -> Layers:
    """The badge around (0, 0), about 0.17 wide, on a rim like a sticker's so that it stands out on any pattern."""
    shape = moved(_SHAPES[emblem], 0.0, 0.0, _SIZE)
    layers = [Layer(shape, "sticker", True, _BORDER), Layer(shape, "accent", True)]
    if emblem in _CENTRES:
        layers.append(Layer(moved(_CENTRES[emblem], 0.0, 0.0, _SIZE), "sticker", True))
    return tuple(layers)


EMBLEM_LAYERS: dict[str, Layers] = {name: emblem_layers(name) for name in _SHAPES}
