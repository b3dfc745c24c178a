"""Rendering: a scene becomes a picture, exact instance masks and boxes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import skia

from anystory.storyworld.brush import Brush
from anystory.storyworld.characters import draw_character
from anystory.storyworld.places import draw_place, get_place, place_brush, place_mask_brush
from anystory.storyworld.rng import stream
from anystory.storyworld.scene import Placement, Scene

_SIZES = range(8, 4097)


@dataclass(frozen=True, kw_only=True, eq=False)
class RenderedScene:
    """A drawn scene. H = W = size."""

    image: np.ndarray
    """(H, W, 3) uint8, RGB."""
    instances: np.ndarray
    """(H, W) uint8: 0 is background, i is a visible pixel of `scene.placements[i - 1]`."""
    boxes: np.ndarray
    """(placements, 4) int32: x0, y0, x1, y1 around the visible pixels (x1, y1 exclusive), or zeros."""


def render_scene(scene: Scene, size: int) -> RenderedScene:
    """Draw a scene at `size` x `size` pixels.

    Raises:
        ValueError: `size` is not a whole number from 8 to 4096.
    """
    _check_size(size)
    canvas, pixels = _canvas(size)
    scenery = place_brush(scene.place, scene.style, scene.light)
    draw_place(canvas, scenery, scene.place, scene.light, stream(scene.decor, "back"), "back")
    ordered = sorted(enumerate(scene.placements, 1), key=lambda item: (item[1].depth, item[0]))
    opacity = get_place(scene.place).shadow
    for _, placement in ordered:
        _draw_shadow(canvas, placement, opacity)
    character_brush = _brush(scene.style, scene.light)
    for _, placement in ordered:
        _draw(canvas, character_brush, placement)
    draw_place(canvas, scenery, scene.place, scene.light, stream(scene.decor, "front"), "front")

    mask_canvas, mask_pixels = _canvas(size)
    for number, placement in ordered:
        _draw(mask_canvas, _mask_brush(number, scene.style), placement)
    cutter = place_mask_brush(scene.style)
    draw_place(mask_canvas, cutter, scene.place, scene.light, stream(scene.decor, "front"), "front")
    instances = mask_pixels[..., 0].copy()
    boxes = np.array([box_of(instances == number) for number in range(1, len(ordered) + 1)], np.int32)
    return RenderedScene(image=np.ascontiguousarray(pixels[..., :3]), instances=instances, boxes=boxes)


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return x0, y0, x1, y1 (exclusive) around the true pixels of an (H, W) mask, or zeros."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _check_size(size: int) -> None:
    if size not in _SIZES:
        raise ValueError(f"size must be a whole number of pixels from 8 to 4096, got {size!r}")


def _canvas(size: int) -> tuple[skia.Canvas, np.ndarray]:
    """Return a canvas in units of the picture, and the (size, size, 4) array it draws straight into."""
    pixels = np.zeros((size, size, 4), np.uint8)
    pixels[..., 3] = 255
    surface = skia.Surface(pixels, colorType=skia.ColorType.kRGBA_8888_ColorType)
    canvas = surface.getCanvas()
    canvas.scale(size, size)
    return canvas, pixels


@lru_cache(maxsize=64)
def _brush(style: str, light: str) -> Brush:
    return Brush(style, light)


@lru_cache(maxsize=64)
def _mask_brush(number: int, style: str) -> Brush:
    return Brush.mask(number, style)


def _draw(canvas: skia.Canvas, brush: Brush, placement: Placement) -> None:
    draw_character(
        canvas, brush, placement.identity, placement.appearance, x=placement.x, y=placement.y, height=placement.height
    )


@lru_cache(maxsize=64)
def _shadow_paint(opacity: float) -> skia.Paint:
    return skia.Paint(AntiAlias=True, Color=round(255 * opacity) << 24 | 0x1B1B3A)


def _draw_shadow(canvas: skia.Canvas, placement: Placement, opacity: float) -> None:
    rx, ry = 0.26 * placement.height, 0.055 * placement.height
    x, y = placement.x, placement.y
    canvas.drawOval(skia.Rect(x - rx, y - ry, x + rx, y + ry), _shadow_paint(opacity))
