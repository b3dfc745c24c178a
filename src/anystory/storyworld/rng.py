"""Reproducible random draws: one named stream per purpose, the same on every machine and Python version."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Rng:
    """Draws that are built on `random.Random.random()` alone.

    `random()` is the only method whose sequence Python promises to keep; `choice`, `shuffle` and the rest have
    changed between versions, so we do not use them.
    """

    __slots__ = ("_random",)

    def __init__(self, key: str) -> None:
        self._random = random.Random(key).random

    def uniform(self, a: float, b: float) -> float:
        """A number in [a, b)."""
        return a + (b - a) * self._random()

    def chance(self, p: float) -> bool:
        """True with probability `p`."""
        return self._random() < p

    def integer(self, a: int, b: int) -> int:
        """A whole number in [a, b], both included."""
        if b < a:
            raise ValueError(f"integer(a, b) needs a <= b, got a={a}, b={b}")
        return a + int(self._random() * (b - a + 1))

    def pick(self, seq: Sequence[T]) -> T:
        """One item of a non-empty sequence, all equally likely."""
        if not seq:
            raise ValueError("cannot pick from an empty sequence")
        return seq[int(self._random() * len(seq))]

    def shuffle(self, seq: Sequence[T]) -> list[T]:
        """A new list with the items of `seq` in random order; `seq` itself is left alone."""
        items = list(seq)
        for i in range(len(items) - 1, 0, -1):
            j = int(self._random() * (i + 1))
            items[i], items[j] = items[j], items[i]
        return items


def stream(*keys: object) -> Rng:
    """The stream named by `keys`, e.g. `stream(seed, "identity", 1)`; equal keys give equal draws."""
    return Rng("/".join(str(key) for key in keys))
