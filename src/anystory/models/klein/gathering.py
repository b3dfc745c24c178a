"""What the picture's rows attend to in chosen blocks: how much of it are a subject's photos, and the words for it.

Shapes: B samples, N subjects, Q tokens, S of the picture, H heads of width e.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from anystory.models.fast.attention import fused_attention_with_lse
from anystory.models.klein.reading import SampleReads

__all__ = ["Gathered", "Gathering"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Gathered:
    """Of one sample: shares of attention, means over heads and blocks, on the CPU."""

    photos: Tensor
    """(N, S) float32 in [0, 1]: on all photos of a subject."""
    words: Tensor
    """(N, S), likewise on its words in the prompt; 0 where there are none."""


@dataclass(kw_only=True, eq=False)
class Gathering:
    """One pass of the transformer that is listened to."""

    layers: frozenset[str]
    """Names of the blocks."""
    words: Sequence[Sequence[Sequence[int]]]
    """For each sample and subject the text tokens that name it."""
    _reads: Sequence[SampleReads] = field(default=(), init=False)
    _found: list[list[Tensor]] = field(default_factory=list, init=False)
    """For each block and sample (2, N, S)."""

    def begin(self, reads: Sequence[SampleReads], call: int) -> None:
        """Listen to a call of the transformer: that for the prompt (0), not that for the negative one."""
        self._reads = reads if call == 0 else ()

    def wants(self, layer: str) -> bool:
        """Whether a block is one of those."""
        return bool(self._reads) and layer in self.layers

    def gather(self, query: Tensor, key: Tensor) -> None:
        """Take the shares of attention in a block from its queries and keys, (B, Q, H, e), normed and turned."""
        query, key = query.transpose(1, 2), key.transpose(1, 2)
        rows = [
            _shares(query[i : i + 1], key[i : i + 1], reads, words)
            for i, (reads, words) in enumerate(zip(self._reads, self.words, strict=True))
        ]
        self._found.append(rows)

    def result(self) -> list[Gathered]:
        """Of each sample, after the pass."""
        means = [torch.stack(blocks).mean(dim=0) for blocks in zip(*self._found, strict=True)]
        return [Gathered(photos=photos, words=words) for photos, words in means]


def _shares(query: Tensor, key: Tensor, reads: SampleReads, words: Sequence[Sequence[int]]) -> Tensor:
    """(2, N, S) on the CPU: each subject's photos and words, from (1, H, Q, e)."""
    picture = slice(reads.text, reads.text + reads.pixels)
    spans = [(part, torch.arange(own.start, own.stop)) for part, own in reads.spans() if part.bias > -math.inf]
    total = _lse(query[:, :, picture], key, [torch.arange(picture.stop), *(indices for _, indices in spans)])

    def share(tokens: Sequence[Tensor]) -> Tensor:
        if not any(map(len, tokens)):
            return torch.zeros(reads.pixels, device=total.device)
        return (_lse(query[:, :, picture], key, tokens) - total).exp().mean(dim=1)[0]

    photos = [share([own for part, own in spans if part.subject == n]) for n in range(len(words))]
    return torch.stack([torch.stack(photos), torch.stack([share([torch.tensor(own)]) for own in words])]).cpu()


def _lse(query: Tensor, key: Tensor, tokens: Sequence[Tensor]) -> Tensor:
    """(1, H, S) log-sum-exp of the scores of (1, H, S, e) on some of the keys (1, H, Q, e)."""
    chosen = key[:, :, torch.cat([*tokens]).to(key.device)]
    return fused_attention_with_lse(query, chosen, chosen)[1]
