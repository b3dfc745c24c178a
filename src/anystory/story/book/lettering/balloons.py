"""The shapes of balloons and captions, and their tails: sizes from a block of text, outlines as skia paths.

Lengths are in points; x points right and y down.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import skia

from anystory.story.book.contents import Kind
from anystory.story.book.lettering.text_block import TextBlock

__all__ = ["Box", "Shape", "leaves", "outer_size", "outline", "padding_of"]

Shape = Kind | Literal["caption", "plain"]
"""A balloon by how it is said; a caption's box; or text without an outline."""

_ROUNDNESS = 2.6
"""Exponent of the superellipse: 2 is an ellipse, large is a rectangle."""
_PADDING = {"speech": 0.55, "whisper": 0.55, "thought": 0.5, "shout": 0.45, "caption": 0.5, "plain": 0.0}
"""Between text and outline, in em."""
_SPIKE, _PUFF = 0.8, 0.65
"""How far a shout's spikes and a thought's puffs stand out, in em."""
_TAIL_BASE = 1.1
"""Width of a tail where it leaves the balloon, in em."""


class Box(NamedTuple):
    """A rectangle in points."""

    x: float
    y: float
    width: float
    height: float

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of the middle."""
        return self.x + self.width / 2, self.y + self.height / 2

    @property
    def right(self) -> float:
        """x of the right side."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """y of the lower side."""
        return self.y + self.height

    def overlaps(self, other: Box, gap: float = 0.0) -> bool:
        """Whether two boxes are nearer than `gap` to one another."""
        return (
            self.x < other.right + gap
            and other.x < self.right + gap
            and self.y < other.bottom + gap
            and other.y < self.bottom + gap
        )


def padding_of(shape: Shape, size: float) -> float:
    """Between text and outline, in points."""
    return _PADDING[shape] * size


def outer_size(block: TextBlock, shape: Shape, size: float) -> tuple[float, float]:
    """Width and height in points of the whole shape around a block, without its tail.

    Args:
        block: the text.
        shape: which outline.
        size: the em in points.
    """
    padding = 2 * _PADDING[shape]
    if shape in ("caption", "plain"):
        return (block.width + padding) * size, (block.height + 0.7 * padding) * size
    grow = max(_reach(block), 1.0)
    beyond = {"shout": 2 * _SPIKE, "thought": 2 * _PUFF}.get(shape, 0.0)
    return (block.width * grow + padding + beyond) * size, (block.height * grow + padding + beyond) * size


def _reach(block: TextBlock) -> float:
    """By how much the superellipse in the block's own box must grow until it holds every line's corners."""
    farthest = 0.0
    for row, width in enumerate(block.widths):
        top = row * block.line_height - block.height / 2
        for y in (top, top + block.ascent + block.descent):
            across, up = width / block.width, abs(y) / (block.height / 2)
            farthest = max(farthest, across**_ROUNDNESS + up**_ROUNDNESS)
    return farthest ** (1 / _ROUNDNESS)


def outline(shape: Shape, box: Box, size: float, tip: tuple[float, float] | None = None) -> list[skia.Path]:
    """The parts of a balloon with its tail, or of a caption: paths that overlap, closed.

    A painter that strokes all of them and then fills all of them draws the outline of their union.

    Args:
        shape: which.
        box: as large as `outer_size` says.
        size: the em in points.
        tip: where the tail ends, outside the box; None for no tail.
    """
    if shape == "plain":
        return []
    if shape == "caption":
        return [skia.Path.Rect(skia.Rect.MakeXYWH(*box))]
    if shape == "thought":
        return [*_puffs(box, size), *(_bubbles(box, size, tip) if tip else [])]
    body = _burst(box, size) if shape == "shout" else _polygon(_superellipse(box, 96))
    return [body] if tip is None else [body, _tail(box, size, tip)]


def _superellipse(box: Box, count: int, inset: float = 0.0) -> list[tuple[float, float]]:
    x, y = box.centre
    a, b = box.width / 2 - inset, box.height / 2 - inset
    points = []
    for step in range(count):
        angle = 2 * math.pi * step / count
        cos, sin = math.cos(angle), math.sin(angle)
        across, down = abs(cos) ** (2 / _ROUNDNESS), abs(sin) ** (2 / _ROUNDNESS)
        points.append((x + a * math.copysign(across, cos), y + b * math.copysign(down, sin)))
    return points


def _even(box: Box, spacing: float, inset: float) -> list[tuple[float, float]]:
    """Points on the superellipse about `spacing` apart along it."""
    dense = _superellipse(box, 720, inset)
    lengths = [0.0]
    for before, after in zip(dense, [*dense[1:], dense[0]], strict=True):
        lengths.append(lengths[-1] + math.dist(before, after))
    count = max(round(lengths[-1] / spacing), 8)
    found, at = [], 0
    for step in range(count):
        while lengths[at + 1] < lengths[-1] * step / count:
            at += 1
        found.append(dense[at])
    return found


def _burst(box: Box, size: float) -> skia.Path:
    """A star whose inner corners lie on the superellipse that holds the text."""
    x, y = box.centre
    inner = _even(box, 1.5 * size, _SPIKE * size)
    points = []
    for index, (before, after) in enumerate(zip(inner, [*inner[1:], inner[0]], strict=True)):
        middle = ((before[0] + after[0]) / 2, (before[1] + after[1]) / 2)
        away = math.dist(middle, (x, y))
        out = _SPIKE * size * (1.0, 0.62, 0.85)[index % 3]
        spike = (middle[0] + (middle[0] - x) / away * out, middle[1] + (middle[1] - y) / away * out)
        points += [before, (min(max(spike[0], box.x), box.right), min(max(spike[1], box.y), box.bottom))]
    return _polygon(points)


def _puffs(box: Box, size: float) -> list[skia.Path]:
    """A cloud: circles along the superellipse that holds the text, and its inside."""
    inner = _even(box, 1.35 * size, _PUFF * size)
    shapes = [_polygon(inner)]
    for index, (x, y) in enumerate(inner):
        shapes.append(_circle(x, y, _PUFF * size * (1.0, 0.86)[index % 2]))
    return shapes


def _bubbles(box: Box, size: float, tip: tuple[float, float]) -> list[skia.Path]:
    """Three shrinking circles from the cloud to the head."""
    start = leaves(box, tip)
    found = []
    for share, radius in ((0.22, 0.42), (0.6, 0.3), (0.94, 0.2)):
        x, y = start[0] + (tip[0] - start[0]) * share, start[1] + (tip[1] - start[1]) * share
        found.append(_circle(x, y, radius * size))
    return found


def _tail(box: Box, size: float, tip: tuple[float, float]) -> skia.Path:
    """A wedge from inside the balloon to the tip, a little bent."""
    x, y = box.centre
    start = leaves(box, tip)
    root = (start[0] + (x - start[0]) * 0.25, start[1] + (y - start[1]) * 0.25)
    along = math.dist(root, tip) or 1.0
    normal = (-(tip[1] - root[1]) / along, (tip[0] - root[0]) / along)
    half = min(_TAIL_BASE * size, 0.5 * box.width, 0.8 * box.height) / 2
    bend = 0.12 * along * (1 if tip[0] >= x else -1)
    middle = ((root[0] + tip[0]) / 2 + normal[0] * bend * 0.5, (root[1] + tip[1]) / 2 + normal[1] * bend * 0.5)
    path = skia.Path()
    path.moveTo(root[0] + normal[0] * half, root[1] + normal[1] * half)
    path.quadTo(middle[0] + normal[0] * half * 0.5, middle[1] + normal[1] * half * 0.5, *tip)
    path.quadTo(
        middle[0] - normal[0] * half * 0.5,
        middle[1] - normal[1] * half * 0.5,
        root[0] - normal[0] * half,
        root[1] - normal[1] * half,
    )
    path.close()
    return path


def leaves(box: Box, tip: tuple[float, float]) -> tuple[float, float]:
    """Where the line from the middle to the tip leaves the superellipse."""
    x, y = box.centre
    dx, dy = tip[0] - x, tip[1] - y
    reach = (abs(2 * dx / box.width) ** _ROUNDNESS + abs(2 * dy / box.height) ** _ROUNDNESS) ** (1 / _ROUNDNESS)
    return x + dx / max(reach, 1e-9), y + dy / max(reach, 1e-9)


def _polygon(points: list[tuple[float, float]]) -> skia.Path:
    return skia.Path.Polygon([skia.Point(*point) for point in points], True)


def _circle(x: float, y: float, radius: float) -> skia.Path:
    return skia.Path.Circle(x, y, radius)
