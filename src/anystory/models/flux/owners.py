"""Who owns each pixel of a FLUX picture: whose region it lies in, else whom the routing map is for most.

Shapes: N subjects, F of them without a region, S tokens of the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

NOBODY = -1
"""The owner of a pixel that lies in none of the regions, where all subjects have one."""
_OPEN = -2


@dataclass(frozen=True, kw_only=True, eq=False)
class Ownership:
    """What is known of one sample's owners before any logits are."""

    free: Tensor | None
    """(F,) the subjects that compete for what no region fixes; None where nobody does."""
    fixed: Tensor
    """(S,) owners, and a mark where the logits decide."""

    @classmethod
    def of(cls, regions: Sequence[Tensor | None], pixels: int, device: torch.device) -> Ownership:
        """That of subjects with such regions, each (S,) bool or None. Where regions overlap the first subject stays."""
        free = [n for n, region in enumerate(regions) if region is None]
        rest = _OPEN if len(free) > 1 else free[0] if free else NOBODY
        fixed = torch.full((pixels,), rest, device=device)
        for n, region in reversed(list(enumerate(regions))):
            if region is not None:
                fixed = fixed.masked_fill(region.to(device), n)
        return cls(free=torch.tensor(free, device=device) if len(free) > 1 else None, fixed=fixed)

    def owners(self, logits: Tensor | None) -> Tensor:
        """Owners (S,) by logits (N, S), which may be None where nobody competes: the first of the largest wins."""
        if self.free is None:
            return self.fixed
        assert logits is not None
        return torch.where(self.fixed == _OPEN, self.free[logits[self.free].argmax(dim=0)], self.fixed)


@dataclass(frozen=True, kw_only=True, eq=False)
class Groups:
    """The pixels of a sample by owner."""

    order: Tensor
    """(S,) the pixels, owner after owner."""
    sizes: tuple[tuple[int, int], ...]
    """(owner, how many pixels), in that order; no empty ones."""

    @classmethod
    def of(cls, owners: Tensor) -> Groups:
        """Those of owners (S,). The only wait for the device in a layer is in here."""
        counts = (owners - NOBODY).bincount().tolist()
        sizes = tuple((NOBODY + i, count) for i, count in enumerate(counts) if count)
        return cls(order=owners.argsort(stable=True), sizes=sizes)


Grouping: TypeAlias = Callable[[Tensor], Groups]
"""Owners (S,) to the pixels by owner."""
