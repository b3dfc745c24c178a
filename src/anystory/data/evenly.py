"""Some of many, with equal steps between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["evenly"]

T = TypeVar("T")


def evenly(values: Sequence[T], count: int) -> list[T]:
    """At most `count` of the values, with equal steps between them, from the first one on."""
    if len(values) <= count:
        return list(values)
    return [values[i * len(values) // count] for i in range(count)]
