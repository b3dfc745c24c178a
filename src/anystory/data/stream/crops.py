"""The target in training: a square crop of picture and masks that keeps most of each subject.

Legend: H × W pixels of the original, S the side of the result, N subjects.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from anystory.data.bad_samples import BadSample
from anystory.data.reading import Target

__all__ = ["Square", "SquareTarget", "choose_square", "cut_square"]

KEEP = 0.8
"""Share of each subject's pixels that a crop should keep."""

LEAST_KEPT = 0.2
"""A subject of which the crop keeps less is left out of the sample."""

SMALLEST = 0.6
"""Least side of a random crop, as a share of the picture's shorter side."""

_DRAWS = 10
_STEPS = 16


class Square(NamedTuple):
    """A crop, in pixels of the original."""

    top: int
    left: int
    side: int


class SquareTarget(NamedTuple):
    """A target at training size."""

    image: np.ndarray
    """(S, S, 3) uint8."""
    instances: np.ndarray
    """(S, S) uint8: 0 background, i the pixels of the i-th kept subject."""
    kept: tuple[int, ...]
    """Which of the N subjects are in the crop, counted from 0."""
    size_condition: np.ndarray
    """(6,) float32, SDXL's micro-conditioning: original height and width, crop's top and left, target height and width.
    The crop's corner counts in pixels of the original resized so that the square has side S."""


def choose_square(target: Target, resolution: int, rng: random.Random | None) -> Square:
    """Where to crop.

    Args:
        target: Picture and masks.
        resolution: S; a random crop is not smaller where the picture is large enough.
        rng: Draws side and corner, up to ten times until the crop keeps `KEEP` of every subject. None takes the largest
            square in the middle.

    Where neither keeps `KEEP` of every subject, the largest square goes where the subject that loses most loses least.
    """
    height, width = target.image.shape[:2]
    largest = min(height, width)
    # An unmasked subject owns every pixel: any crop will do.
    masks = [(mask, int(np.count_nonzero(mask))) for mask in target.masks] if target.masked else []
    if rng is None:
        found = Square((height - largest) // 2, (width - largest) // 2, largest)
        if min(_kept(found, masks)) >= KEEP:
            return found
    else:
        for _ in range(_DRAWS):
            side = max(round(largest * rng.uniform(SMALLEST, 1)), min(resolution, largest))
            found = Square(rng.randint(0, height - side), rng.randint(0, width - side), side)
            if min(_kept(found, masks)) >= KEEP:
                return found
    slack = (height - largest, width - largest)
    steps = sorted(range(_STEPS + 1), key=lambda step: abs(step - _STEPS / 2))  # of equals the one nearest the middle
    places = [Square(slack[0] * step // _STEPS, slack[1] * step // _STEPS, largest) for step in steps]
    shares = [_kept(place, masks) for place in places]
    # Where one is lost everywhere, as in a panorama, keep the others.
    return max(zip(shares, places, strict=True), key=lambda pair: (min(pair[0]), sum(pair[0])))[1]


def cut_square(target: Target, square: Square, resolution: int, *, flip: bool = False) -> SquareTarget:
    """Crop and resize picture and masks alike.

    Args:
        target: Picture and masks.
        square: Where.
        resolution: S.
        flip: Mirror the result.

    Raises:
        BadSample: no subject is inside.
    """
    top, left, side = square
    height, width = target.image.shape[:2]
    inside = (slice(top, top + side), slice(left, left + side))
    image = _resized(target.image[inside], resolution)
    kept, shares = [], []
    for number, mask in enumerate(target.masks):
        part = mask[inside]
        if np.count_nonzero(part) < LEAST_KEPT * np.count_nonzero(mask) and target.masked:
            continue
        share = _resized(part.view(np.uint8) * np.uint8(255), resolution)
        if (share > 127).any():
            kept.append(number)
            shares.append(share)
    if not kept:
        raise BadSample("outside_crop", "no subject lies inside the square crop: the picture is too long and thin")
    stacked = np.stack(shares)
    instances = np.where(stacked.max(axis=0) > 127, stacked.argmax(axis=0) + 1, 0).astype(np.uint8)
    if flip:
        image, instances = np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(instances[:, ::-1])
        left = width - left - side
    scale = resolution / side
    condition = [height, width, round(top * scale), round(left * scale), resolution, resolution]
    return SquareTarget(image, instances, tuple(kept), np.array(condition, np.float32))


def _kept(square: Square, masks: Sequence[tuple[np.ndarray, int]]) -> list[float]:
    """The share of each subject's pixels inside, from the masks (H, W) bool and their pixel counts."""
    top, left, side = square
    inside = (slice(top, top + side), slice(left, left + side))
    return [np.count_nonzero(mask[inside]) / count for mask, count in masks] or [1.0]


def _resized(pixels: np.ndarray, side: int) -> np.ndarray:
    if pixels.shape[0] == side:
        return pixels.copy()  # Pillow's arrays are read-only, which torch warns of
    shrinks = pixels.shape[0] > side
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR if pixels.ndim == 2 else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(pixels), (side, side), interpolation=way)
