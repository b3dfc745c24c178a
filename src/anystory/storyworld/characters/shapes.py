"""Layers (a path and the colour role it is painted in) and small builders for the paths of the art.

Paths are built once and kept: drawing a character is then a handful of skia calls. Lengths are in units of the
character's standing height, y downwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import skia

from anystory.storyworld.brush import Brush

Points = Sequence[tuple[float, float]]


class Layer(NamedTuple):
    """One shape: `colour` is a role of the look ("primary") or a fixed 0xRRGGBB."""

    path: skia.Path
    colour: str | int
    detail: bool = False
    """Lies inside an earlier layer: no outline, no shadow, skipped by masks."""
    width: float = 0.0
    """0 fills the path; otherwise it is drawn as a line of this width."""


Layers = tuple[Layer, ...]


def paint(canvas: skia.Canvas, brush: Brush, layers: Iterable[Layer], colours: dict[str, int]) -> None:
    """Draws layers in order, looking their colour roles up in `colours`."""
    for path, colour, detail, width in layers:
        if detail and brush.is_mask:
            continue
        if isinstance(colour, str):
            colour = colours[colour]
        if width:
            brush.stroke(canvas, path, width, colour, detail=detail)
        else:
            brush.path(canvas, path, colour, detail=detail)


def oval(x: float, y: float, rx: float, ry: float | None = None, degrees: float = 0.0) -> skia.Path:
    """An ellipse with centre (x, y), turned clockwise by `degrees`."""
    ry = rx if ry is None else ry
    path = skia.Path()
    path.addOval(skia.Rect(x - rx, y - ry, x + rx, y + ry))
    if degrees:
        path.transform(skia.Matrix.RotateDeg(degrees, skia.Point(x, y)))
    return path


def box(left: float, top: float, right: float, bottom: float, radius: float = 0.0) -> skia.Path:
    """A rectangle with corners rounded by `radius`."""
    path = skia.Path()
    path.addRoundRect(skia.Rect(left, top, right, bottom), radius, radius)
    return path


def poly(points: Points) -> skia.Path:
    """A closed polygon with sharp corners."""
    path = skia.Path()
    path.addPoly([skia.Point(x, y) for x, y in points], True)
    return path


def blob(points: Points) -> skia.Path:
    """A closed smooth curve that is pulled by `points` (a quadratic spline through the middles of its sides)."""
    path = skia.Path()
    count = len(points)
    x0, y0 = points[-1]
    x1, y1 = points[0]
    path.moveTo((x0 + x1) / 2, (y0 + y1) / 2)
    for i in range(count):
        (x, y), (nx, ny) = points[i], points[(i + 1) % count]
        path.quadTo(x, y, (x + nx) / 2, (y + ny) / 2)
    path.close()
    return path


def rounded(points: Points, radius: float) -> skia.Path:
    """A closed polygon whose corners are rounded by about `radius`."""
    path = skia.Path()
    count = len(points)
    for i in range(count):
        (px, py), (x, y), (nx, ny) = points[i - 1], points[i], points[(i + 1) % count]
        back = min(0.5, radius / max(1e-6, math.hypot(px - x, py - y)))
        ahead = min(0.5, radius / max(1e-6, math.hypot(nx - x, ny - y)))
        start = (x + (px - x) * back, y + (py - y) * back)
        if i == 0:
            path.moveTo(*start)
        else:
            path.lineTo(*start)
        path.quadTo(x, y, x + (nx - x) * ahead, y + (ny - y) * ahead)
    path.close()
    return path


def curve(*points: tuple[float, float]) -> skia.Path:
    """An open line: 2 points straight, 3 quadratic, 4 cubic."""
    path = skia.Path()
    path.moveTo(*points[0])
    flat = [value for point in points[1:] for value in point]
    (path.lineTo, path.quadTo, path.cubicTo)[len(points) - 2](*flat)
    return path


def join(*paths: skia.Path) -> skia.Path:
    """All paths as one (painted in one call)."""
    whole = skia.Path()
    for path in paths:
        whole.addPath(path)
    return whole


def inside(path: skia.Path, outline: skia.Path) -> skia.Path:
    """The part of `path` that lies inside `outline`, computed once so that drawing needs no clip."""
    result = skia.Op(outline, path, skia.PathOp.kIntersect_PathOp)
    assert result is not None, "skia could not intersect two simple paths"
    return result


def mirrored(path: skia.Path) -> skia.Path:
    """The same path with left and right exchanged."""
    copy = skia.Path(path)
    copy.transform(skia.Matrix.Scale(-1.0, 1.0))
    return copy


def both(path: skia.Path) -> skia.Path:
    """The path and its mirror image (two ears, two eyes)."""
    return join(path, mirrored(path))


def moved(path: skia.Path, dx: float, dy: float, sx: float = 1.0, sy: float | None = None) -> skia.Path:
    """The path scaled about the origin by (sx, sy) and then shifted by (dx, dy)."""
    copy = skia.Path(path)
    matrix = skia.Matrix.Scale(sx, sx if sy is None else sy)
    matrix.postTranslate(dx, dy)
    copy.transform(matrix)
    return copy


def star(points: int, outer: float, inner: float, x: float = 0.0, y: float = 0.0) -> skia.Path:
    """A star with one point up."""
    corners = []
    for i in range(2 * points):
        radius = inner if i % 2 else outer
        angle = math.pi * i / points
        corners.append((x + radius * math.sin(angle), y - radius * math.cos(angle)))
    return poly(corners)
