"""The order of an epoch: a pure function of (seed, epoch).

Shards are shuffled, then samples within blocks of a few shards: the disk reads few files at a time, and samples of one
shard still end up far apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["EpochOrder"]

BLOCK_SHARDS = 4
BLOCK_SAMPLES = 4096
"""A block has at least this many shards and samples, or what is left."""


class EpochOrder:
    """Permutations of all samples.

    Args:
        groups: The samples' indices by shard.
        seed: ≥ 0.
    """

    def __init__(self, groups: Sequence[np.ndarray], seed: int) -> None:
        self.groups = [np.asarray(group, np.int64) for group in groups if len(group)]
        self.seed = seed
        self.count = sum(len(group) for group in self.groups)

    def permutation(self, epoch: int) -> np.ndarray:
        """(count,) int64: every index once."""
        # Raw bits of a bit generator stay the same in every NumPy version, which its shuffles need not.
        bits = np.random.PCG64(np.random.SeedSequence([self.seed, epoch]))
        blocks, block, size = [], [], 0
        for number in np.argsort(bits.random_raw(len(self.groups)), kind="stable"):
            block.append(self.groups[number])
            size += len(block[-1])
            if len(block) >= BLOCK_SHARDS and size >= BLOCK_SAMPLES:
                blocks.append(np.concatenate(block))
                block, size = [], 0
        if block:
            blocks.append(np.concatenate(block))
        return np.concatenate([block[np.argsort(bits.random_raw(len(block)), kind="stable")] for block in blocks])
