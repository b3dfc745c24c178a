"""Contact sheets: many pictures of the world on one page, for a person to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anystory.storyworld.level import Level, load_level
from anystory.storyworld.render import render_scene
from anystory.storyworld.sampling import sample_scene

_MARGIN = 4
_PAPER = 255
_MOST_PIXELS = 64_000_000
"""Of a page: what is taken for a picture at all, see `anystory.subjects.pictures`."""
# Colours of instance 0 (background) to 4 in a mask picture.
_MASK_COLOURS = np.array([[24, 24, 32], [245, 130, 48], [70, 150, 240], [60, 180, 90], [230, 90, 170]], dtype=np.uint8)


def contact_sheet(pictures: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Lay pictures out in rows on white paper.

    Args:
        pictures: (H, W, 3) uint8, all of one size; at least one.
        columns: pictures per row, at least 1.

    Returns:
        One (H', W', 3) uint8 picture.

    Raises:
        ValueError: no pictures, different sizes, or no columns.
    """
    if not pictures or len({picture.shape for picture in pictures}) != 1:
        raise ValueError("a contact sheet needs at least one picture, and all of one size")
    if columns < 1:
        raise ValueError(f"a contact sheet needs at least 1 column, got {columns}")
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    shape = (rows * (height + _MARGIN) + _MARGIN, columns * (width + _MARGIN) + _MARGIN, 3)
    sheet = np.full(shape, _PAPER, np.uint8)
    for i, picture in enumerate(pictures):
        y = _MARGIN + i // columns * (height + _MARGIN)
        x = _MARGIN + i % columns * (width + _MARGIN)
        sheet[y : y + height, x : x + width] = picture
    return sheet


def world_sheet(
    seed: int = 0,
    *,
    level: Level | str | int = 1,
    split: str = "train",
    rows: int = 4,
    columns: int = 6,
    size: int = 128,
) -> tuple[np.ndarray, list[str]]:
    """Return a sheet of the scenes seed, seed + 1, ... and their captions in reading order."""
    if rows < 1:
        raise ValueError(f"a contact sheet needs at least 1 row, got {rows}")
    pixels = rows * columns * (size + _MARGIN) ** 2
    if pixels > _MOST_PIXELS:
        raise ValueError(
            f"a sheet of {rows} × {columns} pictures of {size} pixels is larger than {_MOST_PIXELS:,} pixels: take "
            "fewer of them, or smaller ones"
        )
    level = level if isinstance(level, Level) else load_level(level)
    drawn = [sample_scene(seed + i, level, split) for i in range(rows * columns)]
    sheet = contact_sheet([render_scene(scene, size).image for scene in drawn], columns)
    return sheet, [scene.caption for scene in drawn]


def mask_picture(instances: np.ndarray) -> np.ndarray:
    """Turn an (H, W) uint8 instance map into an (H, W, 3) uint8 picture, a colour for each character."""
    return _MASK_COLOURS[instances]
