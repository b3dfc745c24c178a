"""Frames of a page's panels, and what part of its picture each shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from anystory.story.book.lettering.balloons import Box
from anystory.story.book.pages.templates import Template

__all__ = ["crop_window", "cropped", "frames"]

MARGIN, GUTTER = 22.0, 9.0
"""Points around the panels, and between them."""
_MOST_CROPPED = 0.34
"""Share of a picture that may be left out on two opposite sides so that a page is filled."""


def frames(
    template: Template, aspects: Sequence[float], width: float, height: float, *, right_to_left: bool
) -> tuple[list[Box], float]:
    """The frame of each panel in reading order, and the height of the page.

    Rows are as high as their pictures want. Where the page is too low or too high for that, pictures lose up to a
    third of one side; if even that is not enough, all frames shrink.

    Args:
        template: its rows are filled in order.
        aspects: width / height of each panel's picture; as many as the template holds, or fewer with `fit_height`.
        width, height: the page in points; with `fit_height` the page is as high as it must be.
        right_to_left: whether rows begin on the right.
    """
    rows = _rows(template, aspects)
    inner = width - 2 * MARGIN
    natural = [_natural_height(row, shapes, inner) for row, shapes in rows]
    gaps = GUTTER * (len(rows) - 1)
    if template.fit_height:
        height, factor, inner_width = sum(natural) + gaps + 2 * MARGIN, 1.0, inner
    else:
        wanted = (height - 2 * MARGIN - gaps) / sum(natural)
        factor = min(max(wanted, 1 - _MOST_CROPPED), 1 / (1 - _MOST_CROPPED))
        inner_width = inner * min(wanted / factor, 1.0)
    shrink = inner_width / inner
    used = sum(natural) * factor * shrink + gaps
    left, y = (width - inner_width) / 2, (height - used) / 2
    found = []
    for (row, _), high in zip(rows, natural, strict=True):
        x = left
        room = inner_width - GUTTER * (len(row) - 1)
        for share in row:
            wide = room * share / sum(row)
            found.append(Box(width - x - wide if right_to_left else x, y, wide, high * factor * shrink))
            x += wide + GUTTER
        y += high * factor * shrink + GUTTER
    return found, height


def _rows(template: Template, aspects: Sequence[float]) -> list[tuple[tuple[float, ...], list[float]]]:
    """Each row's widths with the shapes of its pictures; a row that is not full keeps its own panels only."""
    left, found = list(aspects), []
    for row in template.rows:
        shapes, left = left[: len(row)], left[len(row) :]
        if shapes:
            found.append((row[: len(shapes)], shapes))
    return found


def _natural_height(row: Sequence[float], shapes: Sequence[float], inner: float) -> float:
    """The height at which a row's pictures lose as little as possible: the geometric mean of what each wants."""
    room = inner - GUTTER * (len(row) - 1)
    wanted = [room * share / sum(row) / shape for share, shape in zip(row, shapes, strict=True)]
    return math.exp(sum(map(math.log, wanted)) / len(wanted))


def cropped(template: Template, aspects: Sequence[float], width: float, height: float) -> float:
    """Mean share of the pictures that the frames of a page leave out, in [0, 1); arguments as for `frames`."""
    boxes, _ = frames(template, aspects, width, height, right_to_left=False)
    ratios = [box.width / box.height / aspect for box, aspect in zip(boxes, aspects, strict=True)]
    return 1 - sum(min(ratio, 1 / ratio) for ratio in ratios) / len(ratios)


def crop_window(width: int, height: int, aspect: float, masks: Mapping[str, np.ndarray]) -> Box:
    """The largest part of a picture with the given width / height that shows most of the subjects.

    Args:
        width, height: the picture's size in pixels.
        aspect: width / height of the frame.
        masks: where the subjects are, (height, width) bool; heads, which are high up, count most.

    Returns:
        In pixels of the picture, not rounded.
    """
    wide, high = min(width, height * aspect), min(height, width / aspect)
    weight = np.zeros((height, width))
    for mask in masks.values():
        rows = np.flatnonzero(mask.any(axis=1))
        if rows.size:
            fade = np.linspace(3.0, 1.0, rows[-1] + 1 - rows[0])
            weight[rows[0] : rows[-1] + 1] += mask[rows[0] : rows[-1] + 1] * fade[:, None]
    return Box(_best_start(weight.sum(axis=0), wide), _best_start(weight.sum(axis=1), high), wide, high)


def _best_start(weight: np.ndarray, length: float) -> float:
    """Where a window of `length` holds most of the weight; the most central of equal places."""
    room = len(weight) - length
    if room <= 0:
        return 0.0
    total = np.concatenate([[0.0], np.cumsum(weight)])
    starts = np.linspace(0, room, 33)
    at = np.arange(len(total))
    held = np.interp(starts + length, at, total) - np.interp(starts, at, total)
    central = -np.abs(starts - room / 2) * 1e-6 * (total[-1] + 1) / len(weight)
    return float(starts[np.argmax(held + central)])
