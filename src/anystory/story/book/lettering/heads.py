"""Where in a panel nothing may be written, and what tails point to: heads and bodies, from the routing masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from anystory.story.book.lettering.balloons import Box

__all__ = ["FaceBox", "Occupied"]

_HEAD_SHARE, _CHIN_SHARE = 0.42, 0.56
"""The upper part of a figure without a neck that is surely its head, and where its chin may be."""
_NECK, _SHOULDERS = 0.75, 1.15
"""A neck's width relative to the head above it, and that of what is below relative to the neck."""
_LEAST_HEAD, _MOST_HEAD = 0.1, 0.65
"""Of a figure's height."""
_MOUTH = 0.75
"""How far down a face its mouth is."""
_CELLS = 96
"""Cells of the grid along the longer side of a panel."""
_JOIN = 5
"""Parts of a mask that are nearer than this many cells belong together: ears and a face, a hat and a head."""
_SPECK = 0.08
"""Parts with less than this share of their mask are specks of the routing."""


class FaceBox(NamedTuple):
    """What a tail points to, in points."""

    box: Box
    """From the top of the head to the chin, as wide as at the mouth."""
    mouth: tuple[float, float]
    """(x, y)."""


class Occupied:
    """Who is where in a frame.

    Attributes:
        heads: Name -> box of the head in points, for each subject that the frame shows.
        faces: Name -> its face.
        obstacles: All boxes that no text may touch.
    """

    def __init__(self, masks: Mapping[str, np.ndarray], frame: Box) -> None:
        """Args:
        masks: name -> bool array of what the frame shows, of any resolution, stretched over the frame.
        frame: the panel in points.
        """
        self.frame = frame
        scale = _CELLS / max(frame.width, frame.height)
        self._columns = max(round(frame.width * scale), 1)
        self._rows = max(round(frame.height * scale), 1)
        grids = {name: self._on_grid(mask) for name, mask in masks.items()}
        everyone = np.zeros((self._rows, self._columns), bool)
        for grid in grids.values():
            everyone |= grid
        figures = {name: _figures(grid) for name, grid in grids.items()}
        self.heads = {name: self._head(found[0]) for name, found in figures.items() if found}
        self.faces = {name: self._face(found[0]) for name, found in figures.items() if found}
        # A router that confuses two subjects still knows where somebody is: figures of all masks together count, too.
        self.obstacles = [*self.heads.values(), *(self._head(figure) for figure in _figures(everyone))]
        self._covered = np.pad(everyone.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))

    def _on_grid(self, mask: np.ndarray) -> np.ndarray:
        rows = (np.arange(self._rows) + 0.5) * mask.shape[0] / self._rows
        columns = (np.arange(self._columns) + 0.5) * mask.shape[1] / self._columns
        return mask[rows.astype(int)][:, columns.astype(int)].astype(bool)

    def _head(self, figure: np.ndarray) -> Box:
        """The box around the upper part of a figure (a mask on the grid), in points."""
        top, end = _head_rows(figure, _HEAD_SHARE)
        columns = np.flatnonzero(figure[top:end].any(axis=0))
        return self._in_points(columns[0], top, columns[-1] + 1, end)

    def _face(self, figure: np.ndarray) -> FaceBox:
        """The face of a figure: at the mouth's height ears, hats and raised arms do not count."""
        top, end = _head_rows(figure, _CHIN_SHARE)
        lower = [np.flatnonzero(row) for row in figure[min((top + end) // 2, end - 1) : end] if row.any()]
        left, right = np.percentile([row[0] for row in lower], 20), np.percentile([row[-1] + 1 for row in lower], 80)
        box = self._in_points(float(left), top, float(right), end)
        return FaceBox(box, (box.centre[0], box.y + _MOUTH * box.height))

    def _in_points(self, left: float, top: float, right: float, bottom: float) -> Box:
        """A box of the grid."""
        across, down = self.frame.width / self._columns, self.frame.height / self._rows
        return Box(
            self.frame.x + left * across, self.frame.y + top * down, (right - left) * across, (bottom - top) * down
        )

    def covered(self, x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
        """Share of boxes of one size that lies on subjects, in [0, 1]; `x` and `y` are their left and upper sides."""
        across, down = self._columns / self.frame.width, self._rows / self.frame.height
        x0 = np.clip(np.floor((x - self.frame.x) * across), 0, self._columns).astype(int)
        x1 = np.clip(np.ceil((x + width - self.frame.x) * across), 0, self._columns).astype(int)
        y0 = np.clip(np.floor((y - self.frame.y) * down), 0, self._rows).astype(int)
        y1 = np.clip(np.ceil((y + height - self.frame.y) * down), 0, self._rows).astype(int)
        total = self._covered
        count = total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]
        return count / np.maximum((x1 - x0) * (y1 - y0), 1)


def _head_rows(figure: np.ndarray, share: float) -> tuple[int, int]:
    """First row of a figure, and the row after its head: at the neck, or after a share of its height.

    A neck is the first place where the figure is narrower than the head above it and than what is below.
    """
    rows = np.flatnonzero(figure.any(axis=1))
    top, height = int(rows[0]), int(rows[-1]) + 1 - int(rows[0])
    widths = np.convolve(np.pad(figure.sum(axis=1)[top : top + height], 1, mode="edge"), np.ones(3) / 3, "valid")
    first, last = max(round(_LEAST_HEAD * height), 2), round(_MOST_HEAD * height)
    for row in range(first, last):
        narrow = widths[row] <= _NECK * widths[:row].max()
        if narrow and widths[row] <= widths[row - 1 : row + 2].min() and widths[row:].max() >= _SHOULDERS * widths[row]:
            return top, top + row
    return top, top + max(round(height * share), 1)


def _figures(mask: np.ndarray) -> list[np.ndarray]:
    """The separate figures of a mask, largest first, without specks."""
    import cv2

    near = cv2.dilate(mask.astype(np.uint8), np.ones((_JOIN, _JOIN), np.uint8))
    count, labels = cv2.connectedComponents(near)
    found = [mask & (labels == label) for label in range(1, count)]
    found = [figure for figure in found if figure.sum() > _SPECK * mask.sum()]
    return sorted(found, key=lambda figure: -int(figure.sum()))
