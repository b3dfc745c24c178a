"""Finding pictures that were seen before among very many."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from anystory.data.build.measures import Look, same_look

__all__ = ["SeenPictures"]


class SeenPictures:
    """Looks of pictures that can be asked for copies without comparing with each.

    Hashes that differ in at most k bits agree in at least one of k + 1 parts: only those that share a part are
    compared.

    Args:
        bits: k, 0…16; -1 finds nothing.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        edges = [64 * i // (bits + 1) for i in range(bits + 2)] if bits >= 0 else [0]
        self._parts = [(low, (1 << (high - low)) - 1) for low, high in pairwise(edges)]
        self._seen: list[dict[int, list[tuple[Look, str]]]] = [defaultdict(list) for _ in self._parts]

    def find(self, value: Look) -> str | None:
        """The name of a picture added before that is the same (`same_look`), if there is one."""
        for (low, mask), seen in zip(self._parts, self._seen, strict=True):
            for other, name in seen.get(value.hash >> low & mask, ()):
                if same_look(other, value, self.bits):
                    return name
        return None

    def add(self, value: Look, name: str) -> None:
        """Remember a picture under a name."""
        for (low, mask), seen in zip(self._parts, self._seen, strict=True):
            seen[value.hash >> low & mask].append((value, name))
