"""Pixels grouped by the slot that owns them: the cost of an attention over groups does not depend on N."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelGroup:
    """All pixels of one sample that belong to one slot; never empty."""

    sample: int
    """Index of the sample, 0 … B − 1."""
    slot: int
    """Index of the slot, N for the background."""
    pixels: Tensor
    """(n,) int64: indices among the layer's L pixels, rising."""


def group_pixels(gate: Tensor) -> tuple[PixelGroup, ...]:
    """The groups of a one-hot map, ordered by sample, then slot.

    The sizes are read on the host: on a GPU this waits for the map.

    Args:
        gate: (B, S, L), exactly one 1 per pixel.

    Returns:
        Groups that together hold every pixel of every sample once.
    """
    batch, slots, pixels = gate.shape
    owner = gate.argmax(dim=1) + slots * torch.arange(batch, device=gate.device)[:, None]
    order = owner.flatten().argsort(stable=True) % pixels
    counts: list[int] = gate.sum(dim=2, dtype=torch.int64).flatten().tolist()
    return tuple(
        PixelGroup(sample=place // slots, slot=place % slots, pixels=part)
        for place, part in enumerate(order.split(counts))
        if counts[place]
    )
