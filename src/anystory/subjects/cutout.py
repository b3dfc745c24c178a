"""Cut a subject out of its background when the picture has neither alpha nor mask; these ways need no model.

A segmenter takes a picture (H, W, 3) uint8 and returns a `Cutout`, or None when it finds no subject.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np

__all__ = ["BUILT_IN_SEGMENTERS", "LOW_CONFIDENCE", "Cutout", "Segmenter", "soft_cutout"]

LOW_CONFIDENCE = 0.5
"""Look at cut-outs below this."""

BORDER_TOLERANCE = 24
"""Largest difference in any channel (0…255) that still counts as the border's colour: JPEG noise, faint gradients."""

_PLAIN_SIDE = 0.95
"""Share of a side's pixels that must have the border's colour. Three sides must; a bust may touch the fourth."""

_LEAST_SHARE, _MOST_SHARE = 0.002, 0.98
"""A cut-out that leaves less or more of the picture than this has failed."""

_GRABCUT_SIDE = 384
"""GrabCut runs on a copy with this longest side: a photograph's full size takes it seconds, and is no better."""

_BAND = 12
"""Pixels of that copy on each side of the outline."""


class Cutout(NamedTuple):
    """Where a picture's subject is, how it was found, and how far to trust that."""

    matte: np.ndarray
    """(H, W) uint8, 255 where the subject is."""
    method: str
    """"mask" or "alpha" for what was given, else the segmenter's name."""
    confidence: float = 1.0
    """In [0, 1]; 1 for what was given. Each segmenter says how it measures it."""


Segmenter: TypeAlias = Callable[[np.ndarray], Cutout | None]


def automatic(rgb: np.ndarray) -> Cutout | None:
    """Remove a plain border, or else run GrabCut; None when neither finds a subject."""
    return plain_border(rgb) or grabcut(rgb)


def plain_border(rgb: np.ndarray) -> Cutout | None:
    """Remove the background of a picture whose border has one colour.

    The background is what has the border's colour and is connected to the border: white inside a subject on white
    survives, as long as something separates it from the outside. The confidence is the share of the three plainest
    sides that has the border's colour.
    """
    sides = [rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]]
    colour = np.median(np.concatenate(sides), axis=0)
    shares = sorted(float(_same_colour(side[None], colour).mean()) for side in sides)
    if shares[1] < _PLAIN_SIDE:
        return None
    plain = _same_colour(rgb, colour).astype(np.uint8)
    # Four neighbours: a background that leaks through the corners of a one-pixel outline would flood the subject.
    _, labels = cv2.connectedComponents(plain, connectivity=4)
    outside = _at_border(labels)
    background = np.isin(labels, outside[outside > 0])
    return _checked(_without_specks(~background, smallest=0.02), "border", sum(shares[1:]) / 3)


def whole(rgb: np.ndarray) -> Cutout:
    """The whole picture: all of it is the subject."""
    return Cutout(np.full(rgb.shape[:2], 255, np.uint8), "none")


def soft_cutout(probabilities: np.ndarray, method: str) -> Cutout | None:
    """What a network found: (H, W) uint8, 255 times the probability; None where nothing stands out.

    Below 0.2 all is background and above 0.8 all is subject: a subject is not translucent because a network is unsure.
    Haze that surrounds nothing solid is dropped. The confidence is the overlap (intersection over union) of the
    probabilities and the pixels above one half: how sure the network is of each pixel. An overlap of 0.6 gives 0.
    """
    inside = probabilities >= 128
    if inside.mean() < _LEAST_SHARE:
        return None
    both = float(probabilities[inside].sum(dtype=np.float64))
    either = 255.0 * np.count_nonzero(inside) + float(probabilities[~inside].sum(dtype=np.float64))
    matte = np.rint(((probabilities / np.float32(255) - 0.2) / 0.6).clip(0, 1) * 255).astype(np.uint8)
    _, labels = cv2.connectedComponents((matte > 0).astype(np.uint8), connectivity=8)
    solid = np.bincount(_indices(labels)[inside], minlength=int(labels.max()) + 1)
    matte[(solid < 0.02 * solid.max())[_indices(labels)]] = 0
    return Cutout(matte, method, max(2.5 * both / either - 1.5, 0.0))


def grabcut(rgb: np.ndarray) -> Cutout | None:
    """Guess the subject with OpenCV's GrabCut, from colours alone: it is taken to lie in the middle of the picture.

    The confidence is how well its two colour models tell the pixels around the outline apart (see `_separation`). On 48
    photographs the cut-outs from 0.5 on had a mean overlap (intersection over union) of 0.80 with good ones, the others
    of 0.50 (docs/references.md).
    """
    height, width = rgb.shape[:2]
    factor = min(1.0, _GRABCUT_SIDE / max(height, width))
    h, w = max(round(height * factor), 1), max(round(width * factor), 1)
    if min(h, w) < 8:
        return None
    small = cv2.resize(rgb, (w, h), interpolation=cv2.INTER_AREA)
    guess = np.full((h, w), cv2.GC_PR_BGD, np.uint8)
    guess[h // 12 : h - h // 12, w // 12 : w - w // 12] = cv2.GC_PR_FGD
    guess[:2], guess[:, :2], guess[:, -2:] = cv2.GC_BGD, cv2.GC_BGD, cv2.GC_BGD
    # GrabCut's colour clusters start from OpenCV's generator (one per thread). Without a fixed start the same reference
    # would be cut differently each time, and no picture could be replayed.
    cv2.setRNGSeed(0)
    background, subject = np.zeros((1, 65)), np.zeros((1, 65))
    try:
        cv2.grabCut(small, guess, None, background, subject, 5, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    except cv2.error:  # all pixels of one kind: it has nothing to tell apart
        return None
    found = (guess == cv2.GC_FGD) | (guess == cv2.GC_PR_FGD)
    found = _without_pinholes(_without_specks(found, smallest=0.05), largest=0.02)
    matte = cv2.resize(found.astype(np.uint8) * 255, (width, height), interpolation=cv2.INTER_LINEAR)
    return _checked(matte >= 128, "grabcut", _separation(small, found, subject, background))


def _separation(rgb: np.ndarray, found: np.ndarray, subject: np.ndarray, background: np.ndarray) -> float:
    """How well two colour models tell a subject's outline from what is beside it, in [0, 1].

    The mean posterior probability of the pixels' own side within `_BAND` pixels of the outline; 2/3, what the worst
    cut-outs have, gives 0.

    Args:
        rgb: (h, w, 3) uint8.
        found: (h, w) bool, the subject.
        subject, background: GrabCut's models of both.
    """
    kernel, inside = np.ones((3, 3), np.uint8), found.astype(np.uint8)
    band = cv2.dilate(inside, kernel, iterations=_BAND) > cv2.erode(inside, kernel, iterations=_BAND)
    if not band.any():
        return 0.0
    colours = rgb[band].astype(np.float64)
    here, there = _density(subject, colours), _density(background, colours)
    is_subject = here / np.maximum(here + there, 1e-300)
    right = float(np.where(found[band], is_subject, 1 - is_subject).mean())
    return min(max(3 * right - 2, 0.0), 1.0)


def _density(model: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """The density (up to a factor) of colours (n, 3) in a mixture of five Gaussians, as GrabCut keeps it in 65 numbers:
    weights, means, covariances."""
    weights, means, covariances = model[0, :5], model[0, 5:20].reshape(5, 3), model[0, 20:].reshape(5, 3, 3)
    total = np.zeros(len(colours))
    for weight, mean, covariance in zip(weights, means, covariances, strict=True):
        if weight > 0:
            spread = covariance + 0.01 * np.eye(3)  # a part of one colour has none
            apart = colours - mean
            distance = np.einsum("ni,ij,nj->n", apart, np.linalg.inv(spread), apart)
            total += weight * np.exp(-distance / 2) / np.sqrt(np.linalg.det(spread))
    return total


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


def _checked(found: np.ndarray, method: str, confidence: float) -> Cutout | None:
    if not _LEAST_SHARE <= found.mean() <= _MOST_SHARE:
        return None
    return Cutout(found.astype(np.uint8) * np.uint8(255), method, confidence)


BUILT_IN_SEGMENTERS: dict[str, Segmenter] = {
    "auto": automatic,
    "border": plain_border,
    "grabcut": grabcut,
    "none": whole,
}
"""The segmenters that need no model, by name."""
