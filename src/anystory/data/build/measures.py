"""Numbers that tell whether a picture is sharp, and whether two show the same.

Legend: H × W pixels, row first.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

__all__ = ["Look", "closeness", "colour_overlap", "colours", "difference_hash", "look", "same_look", "sharpness"]

_SHARPNESS_SIDE = 512
_HASH_SIDE = 8
_BINS = (12, 4, 4)
_CELLS = 12
_CELL_DIFFERENCE = 24


def sharpness(rgb: np.ndarray) -> float:
    """Variance of the Laplacian of the brightness (0…255): under about 20 for blurred photographs.

    Args:
        rgb: (H, W, 3) uint8; measured on a copy with a longer side of at most 512, so that the size does not matter.
    """
    factor = _SHARPNESS_SIDE / max(rgb.shape[:2])
    if factor < 1:
        size = max(round(rgb.shape[1] * factor), 1), max(round(rgb.shape[0] * factor), 1)
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


def difference_hash(rgb: np.ndarray) -> int:
    """64 bits: whether each cell of an 8 × 9 copy is brighter than its left neighbour. Survives resizing and JPEG.

    Args:
        rgb: (H, W, 3) uint8.
    """
    small = cv2.resize(
        cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (_HASH_SIDE + 1, _HASH_SIDE), interpolation=cv2.INTER_AREA
    )
    bits = small[:, 1:] > small[:, :-1]
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


class Look(NamedTuple):
    """What a picture is recognised by."""

    hash: int
    """`difference_hash`."""
    cells: bytes
    """The mean colours of 12 × 12 cells, 432 bytes. A hash alone takes two poses before a plain wall for one."""


def look(rgb: np.ndarray) -> Look:
    """What a picture (H, W, 3) uint8 is recognised by."""
    return Look(difference_hash(rgb), cv2.resize(rgb, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA).tobytes())


def same_look(a: Look, b: Look, bits: int) -> bool:
    """Whether two pictures are copies: resized, stored again, or a moment later from the same tripod.

    Args:
        a, b: The pictures.
        bits: Their hashes may differ in so many of 64 bits; unrelated pictures differ in about 32.
    """
    if (a.hash ^ b.hash).bit_count() > bits:
        return False
    cells = [np.frombuffer(x.cells, np.uint8).astype(np.int16).reshape(-1, 3) for x in (a, b)]
    return bool(np.abs(cells[0] - cells[1]).mean(axis=1).max() <= _CELL_DIFFERENCE)


def closeness(a: int, b: int) -> float:
    """Share of bits that two hashes have in common, in [0, 1]."""
    return 1 - (a ^ b).bit_count() / 64


def colours(rgb: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """How much of a subject has which colour: (12 hues × 4 saturations × 4 values,) float32 with sum 1.

    Args:
        rgb: (H, W, 3) uint8.
        weight: (H, W) float32 in [0, 1], the subject's share of each pixel; not 0 everywhere.
    """
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
    bins = [hsv[..., i].astype(np.intp) * count // (180 if i == 0 else 256) for i, count in enumerate(_BINS)]
    index = np.ravel_multi_index((bins[0], bins[1], bins[2]), _BINS)
    found = np.bincount(index.ravel(), weights=weight.ravel(), minlength=int(np.prod(_BINS)))
    return (found / found.sum()).astype(np.float32)


def colour_overlap(a: np.ndarray, b: np.ndarray) -> float:
    """What two results of `colours` have in common, in [0, 1]: 1 for the same colours in the same amounts."""
    return float(np.minimum(a, b).sum())
