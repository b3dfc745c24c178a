"""What a picture is recognised by, and finding copies among very many pictures."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np

__all__ = ["FingerprintIndex", "ImageFingerprint", "difference_hash", "hash_similarity"]

_HASH_SIDE = 8
_CELLS = 12
_CELL_DIFFERENCE = 24


def difference_hash(rgb: np.ndarray) -> int:
    """64 bits: whether each cell of an 8 × 9 copy is brighter than its left neighbour. Survives resizing and JPEG.

    Args:
        rgb: (H, W, 3) uint8.
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_HASH_SIDE + 1, _HASH_SIDE), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def hash_similarity(a: int, b: int) -> float:
    """Share of bits that two hashes have in common, in [0, 1]; about 0.5 for unrelated pictures."""
    return 1 - (a ^ b).bit_count() / 64


class ImageFingerprint(NamedTuple):
    """What a picture is recognised by."""

    hash: int
    """`difference_hash`."""
    cells: bytes
    """The mean colours of 12 × 12 cells, 432 bytes: by the hash alone, two poses before a plain wall would match."""

    @classmethod
    def of(cls, rgb: np.ndarray) -> ImageFingerprint:
        """The fingerprint of a picture (H, W, 3) uint8."""
        return cls(difference_hash(rgb), cv2.resize(rgb, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA).tobytes())

    def matches(self, other: ImageFingerprint, bits: int) -> bool:
        """Whether two pictures are copies: resized, stored again, or a moment later from the same tripod.

        Args:
            other: The other picture's.
            bits: The hashes may differ in this many of 64 bits; those of unrelated pictures differ in about 32.
        """
        if (self.hash ^ other.hash).bit_count() > bits:
            return False
        mine, theirs = (np.frombuffer(x.cells, np.uint8).astype(np.int16).reshape(-1, 3) for x in (self, other))
        return bool(np.abs(mine - theirs).mean(axis=1).max() <= _CELL_DIFFERENCE)


class FingerprintIndex:
    """Fingerprints of pictures that were seen before; finds a copy without comparing with each.

    Hashes that differ in at most k bits agree in at least one of k + 1 parts: only those that share a part are
    compared.

    Args:
        bits: k, 0…16; -1 finds nothing.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        edges = [64 * i // (bits + 1) for i in range(bits + 2)] if bits >= 0 else [0]
        self._parts = [(low, (1 << (high - low)) - 1) for low, high in pairwise(edges)]
        self._seen: list[dict[int, list[tuple[ImageFingerprint, str]]]] = [defaultdict(list) for _ in self._parts]

    def find(self, value: ImageFingerprint) -> str | None:
        """The name of a picture added before that matches, if there is one."""
        for (low, mask), seen in zip(self._parts, self._seen, strict=True):
            for other, name in seen.get(value.hash >> low & mask, ()):
                if other.matches(value, self.bits):
                    return name
        return None

    def add(self, value: ImageFingerprint, name: str) -> None:
        """Remember a picture under a name."""
        for (low, mask), seen in zip(self._parts, self._seen, strict=True):
            seen[value.hash >> low & mask].append((value, name))
