"""Whether a drawn face has both eyes. A template finds them: the attribute classifier does not read eyes.

StoryWorld's eyes are white ovals about a dark pupil, those of a robot white ovals on a dark screen. Both are a small
middle inside a ring, one light and the other dark, so that no colour of the character matters. On a pale face a dark
smear passes for an eye, and so does a closed one; level 1 has no closed eyes.
"""

from __future__ import annotations

from itertools import combinations

import cv2
import numpy as np

from anystory.evaluation.bootstrap import Scores
from anystory.evaluation.storyworld.cases import Case, instance_masks
from anystory.evaluation.storyworld.scores import match
from anystory.storyworld.attribute_classifier.classifier import Reading
from anystory.storyworld.characters.heads.draw import eyes_glow

# All lengths are shares of the picture's side: StoryWorld's characters stand at about one distance.
_RADII = (0.017, 0.021, 0.026, 0.031)
"""Outer radii of an eye."""
_CONTRAST = 0.1
"""Least difference of ring and middle, of 1. On true scenes it is 0.2 and more; blur makes it smaller."""
_APART = (0.045, 0.2)
"""How far the eyes of one face are apart, least and most."""
_LEVEL = 0.035
"""How much higher one of them may be."""
_HEAD = 0.65
"""The share of a character's height, from the top, in which its eyes are."""
_MARGIN = 0.02
"""An eye may be this far outside a mask, which is only about right."""


def eyes_scores(case: Case, reading: Reading, drawn: np.ndarray) -> Scores:
    """`eyes`: how many of the subjects whose true face shows two eyes have two in a drawn picture (H, W, 3) uint8.

    A subject without a character has none.
    """
    hits = trials = 0
    true, seated = instance_masks(case), match(case, reading.characters)
    for kind, mask, found in zip(case.kinds, true, seated, strict=True):
        glow = eyes_glow(kind)
        if has_two_eyes(case.true, mask, glow):
            trials += 1
            hits += found is not None and has_two_eyes(drawn, found.mask, glow)
    return {"eyes": (float(hits), float(trials))} if trials else {}


def has_two_eyes(picture: np.ndarray, mask: np.ndarray, glowing: bool = False) -> bool:
    """Whether two eyes are beside each other in the upper part of a character.

    Args:
        picture: (H, W, 3) uint8.
        mask: (h, w) bool: the character, in any size.
        glowing: White ovals on a dark screen, and no pupils.
    """
    side = picture.shape[0]
    inside = cv2.resize(mask.astype(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    rows = np.flatnonzero(inside.any(axis=1))
    if not rows.size:
        return False
    near = cv2.dilate(inside, _disc(_MARGIN * side)).astype(bool)
    near[int(rows[0] + _HEAD * (rows[-1] - rows[0])) + 1 :] = False
    least, most = (share * side for share in _APART)
    return any(
        abs(y - v) <= _LEVEL * side and least <= abs(x - u) <= most
        for (y, x), (v, u) in combinations(_eyes(picture, near, glowing), 2)
    )


def _eyes(picture: np.ndarray, where: np.ndarray, glowing: bool) -> list[tuple[int, int]]:
    """(y, x) of what looks most like an eye among its neighbours."""
    side, values = picture.shape[0], picture.astype(np.float32) / 255
    light, dark = values.min(axis=2), values.max(axis=2)  # white is light in all channels, black dark in all
    middle, ring = (light, dark) if glowing else (dark, light)
    contrast = np.full(light.shape, -1.0, np.float32)
    for radius in _RADII:
        inner, outer = _kernels(radius * side, glowing)
        parts = _mean(ring, outer) - _mean(middle, inner)
        contrast = np.maximum(contrast, -parts if glowing else parts)
    highest = cv2.dilate(contrast, _disc(_RADII[0] * side))
    return [(int(y), int(x)) for y, x in np.argwhere(where & (contrast == highest) & (contrast > _CONTRAST))]


def _kernels(radius: float, glowing: bool) -> tuple[np.ndarray, np.ndarray]:
    """Weights of an eye's middle and of the ring about it, each of sum 1: ovals with soft edges, a little upright.

    An eye with a pupil is compared with its white, one that glows with what is around it.
    """
    reach = int(np.ceil(radius * (1.5 if glowing else 1.0))) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    distance = np.hypot(x / 0.9, y / 1.05)

    def disc(share: float) -> np.ndarray:
        return np.clip(share * radius - distance + 0.5, 0, 1)

    middle, ring = (disc(0.8), disc(1.5) - disc(1.2)) if glowing else (disc(0.62), disc(1.0) * (1 - disc(0.85)))
    return middle / middle.sum(), ring / ring.sum()


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return cv2.filter2D(values, cv2.CV_32F, weights.astype(np.float32), borderType=cv2.BORDER_REPLICATE)


def _disc(radius: float) -> np.ndarray:
    side = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
