"""Evidence made by hand: subjects as boxes, of which some layers tell the truth and others do not."""

from __future__ import annotations

import numpy as np

from anystory.segment.fusion import Evidence

LAYERS = ("honest", "noisy", "wrong")
GRID, SIDE = 8, 32


def boxes(seed: int, there: tuple[bool, ...] = (True, True)) -> np.ndarray:
    """(N, SIDE, SIDE) bool: in the left and the right half; nothing where a subject is not there."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((len(there), SIDE, SIDE), bool)
    for n, present in enumerate(there):
        top, left = 4 * rng.integers(0, 4), 16 * n + 4 * rng.integers(0, 2)
        masks[n, top : top + 12, left : left + 8] = present
    return masks


def evidence(truth: np.ndarray, seed: int, levels: int = 2) -> Evidence:
    """An absent subject is claimed to be somewhere, too, but the network's error does not get smaller there."""
    rng = np.random.default_rng((seed, 1))
    claimed = np.stack([mask if mask.any() else boxes(seed + 100)[n] for n, mask in enumerate(truth)])
    small = claimed.reshape(len(truth), GRID, 4, GRID, 4).mean(axis=(2, 4))
    odds = np.empty((levels, len(LAYERS), len(truth), GRID, GRID), np.float32)
    for level in range(levels):
        odds[level, 0] = 4 * small - 2 + rng.normal(0, 0.5, small.shape)
        odds[level, 1] = rng.normal(0, 2, small.shape)
        odds[level, 2] = -3 * (4 * small - 2)
    errors = np.ones((levels, 2, GRID, GRID), np.float32)
    helped = truth.reshape(len(truth), GRID, 4, GRID, 4).mean(axis=(2, 4)).sum(axis=0)
    errors[:, 0] -= 0.3 * helped + rng.normal(0, 0.02, helped.shape)
    return Evidence(layers=LAYERS, odds=odds, errors=errors)
