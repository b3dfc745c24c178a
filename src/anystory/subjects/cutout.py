"""Telling a subject from its background when neither alpha nor mask does.

Every function takes a picture (H, W, 3) uint8 and returns a matte (H, W) uint8, 255 where the subject is, or None when
its way of telling does not apply to the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

__all__ = ["WAYS", "Cutout", "automatic", "grabcut", "plain_border"]

BORDER_TOLERANCE = 24
"""Largest difference in any channel (0…255) that still counts as the border's colour: JPEG noise, faint gradients."""

_PLAIN_SIDE = 0.95
"""Share of a side's pixels that must have the border's colour. Three sides must; a bust may touch the fourth."""

_LEAST_SHARE, _MOST_SHARE = 0.002, 0.98
"""A cut-out that leaves less or more of the picture than this has failed."""

_GRABCUT_SIDE = 384
"""GrabCut runs on a copy with this longest side: a photograph's full size takes it seconds, and is no better."""


class Cutout(NamedTuple):
    """A matte, and by which way it was found."""

    matte: np.ndarray
    method: str


def automatic(rgb: np.ndarray) -> Cutout | None:
    """Remove a plain border, or else run GrabCut; None when neither finds a subject."""
    for method, cut in (("border", plain_border), ("grabcut", grabcut)):
        matte = cut(rgb)
        if matte is not None:
            return Cutout(matte, method)
    return None


def plain_border(rgb: np.ndarray) -> np.ndarray | None:
    """Remove the background of a picture whose border has one colour.

    The background is what has the border's colour and is connected to the border: white inside a subject on white
    survives, as long as something separates it from the outside.
    """
    sides = [rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]]
    colour = np.median(np.concatenate(sides), axis=0)
    shares = sorted(_same_colour(side[None], colour).mean() for side in sides)
    if shares[1] < _PLAIN_SIDE:
        return None
    plain = _same_colour(rgb, colour).astype(np.uint8)
    # Four neighbours: a background that leaks through the corners of a one-pixel outline would flood the subject.
    _, labels = cv2.connectedComponents(plain, connectivity=4)
    outside = _at_border(labels)
    background = np.isin(labels, outside[outside > 0])
    return _checked(_without_specks(~background, smallest=0.02))


def grabcut(rgb: np.ndarray) -> np.ndarray | None:
    """Guess the subject with OpenCV's GrabCut, from colours alone: it is taken to lie in the middle of the picture."""
    height, width = rgb.shape[:2]
    factor = min(1.0, _GRABCUT_SIDE / max(height, width))
    h, w = max(round(height * factor), 1), max(round(width * factor), 1)
    if min(h, w) < 8:
        return None
    small = cv2.resize(rgb, (w, h), interpolation=cv2.INTER_AREA)
    guess = np.full((h, w), cv2.GC_PR_BGD, np.uint8)
    guess[h // 12 : h - h // 12, w // 12 : w - w // 12] = cv2.GC_PR_FGD
    guess[:2], guess[:, :2], guess[:, -2:] = cv2.GC_BGD, cv2.GC_BGD, cv2.GC_BGD
    # GrabCut's colour clusters start from OpenCV's generator (one per thread): without a fixed start the same reference
    # would be cut differently each time, and no picture could be drawn again.
    cv2.setRNGSeed(0)
    try:
        cv2.grabCut(small, guess, None, np.zeros((1, 65)), np.zeros((1, 65)), 5, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    except cv2.error:  # all pixels of one kind: it has nothing to tell apart
        return None
    found = (guess == cv2.GC_FGD) | (guess == cv2.GC_PR_FGD)
    found = _without_pinholes(_without_specks(found, smallest=0.05), largest=0.02)
    matte = cv2.resize(found.astype(np.uint8) * 255, (width, height), interpolation=cv2.INTER_LINEAR)
    return _checked(matte >= 128)


def _same_colour(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.abs(pixels.astype(np.int16) - colour.astype(np.int16)).max(axis=-1) <= BORDER_TOLERANCE


def _without_specks(found: np.ndarray, smallest: float) -> np.ndarray:
    """Keep the connected parts that are at least `smallest` times as large as the largest one."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(found.astype(np.uint8), connectivity=8)
    if count <= 1:
        return found
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
    areas[0] = 0  # the part of everything that was not found
    return (areas >= smallest * areas.max())[_indices(labels)] & found


def _without_pinholes(found: np.ndarray, largest: float) -> np.ndarray:
    """Fill holes up to `largest` times the subject's area: eyes and emblems in the background's colour."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((~found).astype(np.uint8), connectivity=4)
    hole = stats[:, cv2.CC_STAT_AREA] <= largest * np.count_nonzero(found)
    hole[_at_border(labels)] = False
    return found | hole[_indices(labels)]


def _at_border(labels: np.ndarray) -> np.ndarray:
    labels = _indices(labels)
    return np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))


def _indices(labels: np.ndarray) -> np.ndarray:
    return labels.astype(np.intp)  # OpenCV's type stubs only know "some number"


def _checked(found: np.ndarray) -> np.ndarray | None:
    return found.astype(np.uint8) * np.uint8(255) if _LEAST_SHARE <= found.mean() <= _MOST_SHARE else None


def _either(rgb: np.ndarray) -> np.ndarray | None:
    found = automatic(rgb)
    return None if found is None else found.matte


WAYS: dict[str, Callable[[np.ndarray], np.ndarray | None]] = {
    "auto": _either,
    "border": plain_border,
    "grabcut": grabcut,
}
"""The ways that need no model, by name."""
