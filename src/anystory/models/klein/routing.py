"""Who owns each pixel of a FLUX.2 picture, by what its rows attend to: no training, no layout.

Experimental: blocks and thresholds were never chosen on the real weights.

Shapes: N subjects, S tokens of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from anystory.models.klein.gathering import Gathered

__all__ = ["AttentionRouting", "Decided", "block_names", "decide_owners"]

_RISE = 0.05
"""By how much the logarithm of a starved subject's map rises at a time."""
_ROUNDS = 200


@dataclass(frozen=True, kw_only=True)
class AttentionRouting:
    """How owners follow from attention."""

    blocks: tuple[int, ...] | None = None
    """The blocks that are listened to, double ones first, from 0; None for the middle half of all."""
    step: int = 0
    """The sampling step in which they are; the owners hold from the next one on."""
    throw_away: bool = False
    """Whether the picture begins again after that step, so that the owners hold in all steps. It costs these steps."""
    words: float = 0.5
    """Weight of the attention to a subject's name in the prompt, beside 1 for that to its photos."""
    threshold: float = 0.3
    """A pixel whose best subject has less than this share of the largest value is background."""
    least: float = 0.5
    """The least share of all owned pixels that a subject gets, of an equal one: balanced argmax. 0 for plain argmax."""
    smooth: int = 3
    """Side of the square of tokens over which maps are averaged first, odd; 1 for none."""

    def __post_init__(self) -> None:
        for name in ("threshold", "least"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be in 0…1, got {getattr(self, name)}")
        if self.words < 0:
            raise ValueError(f"`words` must be at least 0, got {self.words}")
        if self.smooth < 1 or self.smooth % 2 == 0:
            raise ValueError(f"`smooth` must be an odd number of tokens, got {self.smooth}")
        if self.step < 0:
            raise ValueError(f"`step` must be at least 0, got {self.step}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Decided:
    """Who owns what of one sample."""

    scores: Tensor
    """(N + 1, S) float32 that sum to 1, the background last: what the owners were decided by."""
    owners: Tensor
    """(S,) int64: the subject, or N for the background."""


def block_names(transformer: object, blocks: tuple[int, ...] | None) -> frozenset[str]:
    """Names of the blocks with these numbers; the middle half for None.

    Raises:
        ValueError: a number that is none.
    """
    kinds = ("transformer_blocks", "single_transformer_blocks")
    names = [f"{kind}.{i}" for kind in kinds for i in range(len(getattr(transformer, kind)))]
    if blocks is None:
        return frozenset(names[len(names) // 4 : len(names) - len(names) // 4])
    if not blocks or not all(0 <= block < len(names) for block in blocks):
        raise ValueError(f"`blocks` must be numbers from 0 to {len(names) - 1}, at least one, got {blocks}")
    return frozenset(names[block] for block in blocks)


def decide_owners(found: Gathered, grid: tuple[int, int], how: AttentionRouting, *, open_pixels: Tensor) -> Decided:
    """Owners from shares of attention.

    Each map is divided by its largest value, so that a photo that all of the picture reads has no advantage.

    Args:
        found: The shares, of the subjects that compete.
        grid: Rows and columns of the picture's tokens.
        how: Weights and thresholds.
        open_pixels: (S,) bool; all others are background.
    """
    maps = _peaked(_smoothed(found.photos, grid, how.smooth))
    maps = maps + how.words * _peaked(_smoothed(found.words, grid, how.smooth))
    subjects = len(maps)
    seen = (maps.amax(dim=0) >= how.threshold * maps.max()) & open_pixels
    owners = torch.full((maps.shape[1],), subjects)
    owners[seen] = _balanced_argmax(maps[:, seen], how.least / subjects)
    background = torch.full((1, maps.shape[1]), float(how.threshold * maps.max()))
    scores = torch.cat([maps, background])
    return Decided(scores=scores / scores.sum(dim=0).clamp(min=1e-12), owners=owners)


def _balanced_argmax(maps: Tensor, least: float) -> Tensor:
    """(S',) the largest of (N, S'), after maps of subjects with less than this share of the pixels have risen."""
    logs = maps.clamp(min=1e-12).log()
    offsets = torch.zeros(len(maps), 1)
    for _ in range(_ROUNDS):
        owners = (logs + offsets).argmax(dim=0)
        shares = owners.bincount(minlength=len(maps)) / max(len(owners), 1)
        starved = int(shares.argmin())
        if shares[starved] >= least:
            break
        offsets[starved] += _RISE
    return (logs + offsets).argmax(dim=0)


def _peaked(maps: Tensor) -> Tensor:
    return maps / maps.amax(dim=1, keepdim=True).clamp(min=1e-12)


def _smoothed(maps: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    square = maps.unflatten(1, grid)[:, None]
    return F.avg_pool2d(square, side, stride=1, padding=side // 2, count_include_pad=False).flatten(1)
