"""A `Fusion` fitted to pictures in which it is known who is where.

Two logistic regressions: a pixel's slot from all maps' log-odds, with the same weights for every subject, so that it
does not matter who comes first; and whether a subject is in the picture, from its pooled evidence. The threshold of the
second is set on subjects that its weights have not seen.

Shapes: N subjects, F = levels × layers maps, h × w their grid, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from anystory.segment.fusion import Evidence, Fusion, Presence, pooled_evidence

__all__ = ["Sample", "fit_fusion"]

EMPTIED = 0.93
"""The share of absent subjects whose masks are to be empty. More would also empty masks of subjects that are there."""
_FOLDS = 5
_MOST_PIXELS = 512
"""Of each picture; larger grids are sampled."""
_SHRINKS = (3e-3, 1e-2, 5e-2)
"""Weights of the squared weights in the second regression; the best on unseen subjects is taken."""
_SHRINK_PIXELS = 1e-2
"""The same in the first, which has many more samples than weights."""
_ROUNDS = 25


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """A picture with subjects that were looked for."""

    found: Evidence
    truth: np.ndarray
    """(N, H, W) bool: where each is; empty for one that is not there."""

    @property
    def present(self) -> np.ndarray:
        """(N,) bool."""
        return np.asarray(self.truth.any(axis=(1, 2)))


def fit_fusion(samples: Sequence[Sample], like: Fusion, seed: int = 0) -> Fusion:
    """Fit weights, bias, presence and threshold.

    Args:
        samples: At the noise levels of `like`; with some subjects that are there, and some that are not.
        like: Levels and draws.
        seed: Of the pixels that are sampled, and of the folds.

    Raises:
        ValueError: too few samples.
    """
    rng = np.random.default_rng(seed)
    whole = [sample for sample in samples if sample.present.all()]
    subjects = np.concatenate([sample.present for sample in samples]) if samples else np.zeros(0, bool)
    if len(whole) < _FOLDS or min(subjects.sum(), (~subjects).sum()) < _FOLDS:
        raise ValueError(
            f"a fit needs at least {_FOLDS} pictures with everybody in them, and {_FOLDS} absent subjects: "
            f"got {len(whole)} and {int((~subjects).sum())}"
        )
    layers = samples[0].found.layers
    weights, bias = _fit_pixels(whole, rng)
    fused = replace(
        like,
        layers=layers,
        weights=tuple(tuple(map(float, row)) for row in weights.reshape(len(like.levels), len(layers)).round(5)),
        bias=round(float(bias), 5),
        presence=None,
    )
    pooled = np.concatenate([pooled_evidence(one.found, fused.probabilities(one.found)) for one in samples])
    presence, threshold = _fit_presence(pooled, subjects, rng)
    return replace(fused, presence=presence, threshold=threshold)


def _fit_pixels(samples: Sequence[Sample], rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Weights (F,) and bias of the softmax over slots; each picture counts alike."""
    given = [_pixels(sample, rng) for sample in samples]
    size = len(given[0][0])
    weights, bias = torch.full((size,), 1 / size, requires_grad=True), torch.zeros(1, requires_grad=True)
    groups = [
        tuple(
            torch.from_numpy(np.stack(part))
            for part in zip(*(one for one in given if one[0].shape[1] == n), strict=True)
        )
        for n in {one[0].shape[1] for one in given}
    ]

    def loss() -> torch.Tensor:
        total = _SHRINK_PIXELS * weights.square().sum()
        for odds, shares in groups:  # (n, F, N, p) and (n, N + 1, p)
            scores = torch.einsum("f,bfnp->bnp", weights, odds) + bias
            scores = torch.cat([scores, torch.zeros_like(scores[:, :1])], dim=1)
            total = total - (shares * scores.log_softmax(dim=1)).sum(dim=1).mean(dim=1).sum() / len(given)
        return total

    _minimise([weights, bias], loss)
    return weights.detach().numpy(), bias.item()


def _pixels(sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds (F, N, p) and the slots' shares (N + 1, p) of the pixels of a sample's grid, or of some of them."""
    odds = sample.found.odds
    height, width = odds.shape[-2:]
    area = [cv2.resize(one.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) for one in sample.truth]
    shares = np.stack([*area, 1 - np.clip(sum(area), 0, 1)]).reshape(len(area) + 1, -1)
    chosen = np.sort(rng.permutation(height * width)[:_MOST_PIXELS])
    return odds.reshape(-1, len(area), height * width)[..., chosen], shares[:, chosen]


def _fit_presence(pooled: np.ndarray, present: np.ndarray, rng: np.random.Generator) -> tuple[Presence, float]:
    """The regression on all subjects, and a threshold for subjects that it has not seen.

    Args:
        pooled: (n, P).
        present: (n,) bool.
        rng: Of the folds.
    """
    folds = rng.permutation(len(pooled)) % _FOLDS
    best: tuple[float, float, np.ndarray] | None = None
    for shrink in _SHRINKS:
        unseen = np.empty(len(pooled))
        for fold in range(_FOLDS):
            here = folds == fold
            unseen[here] = _logistic(pooled[~here], present[~here], shrink).probability(pooled[here])
        loss = -np.log(np.where(present, unseen, 1 - unseen).clip(1e-9)).mean()
        if best is None or loss < best[0]:
            best = (float(loss), shrink, unseen)
    assert best is not None
    threshold = np.quantile(best[2][~present], EMPTIED)
    return _logistic(pooled, present, best[1]), round(float(threshold), 5)


def _logistic(values: np.ndarray, labels: np.ndarray, shrink: float) -> Presence:
    """A logistic regression with both classes of equal weight, by L-BFGS on standardised values."""
    mean, spread = values.mean(axis=0), values.std(axis=0) + 1e-6
    inputs = torch.from_numpy((values - mean) / spread).float()
    wanted = torch.from_numpy(labels).float()
    balance = torch.where(wanted > 0, 0.5 / wanted.mean(), 0.5 / (1 - wanted.mean()))
    weights, bias = torch.zeros(inputs.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)

    def loss() -> torch.Tensor:
        wrong = torch.nn.functional.binary_cross_entropy_with_logits(inputs @ weights + bias, wanted, balance)
        return wrong + shrink * weights.square().sum()

    _minimise([weights, bias], loss)
    slopes = weights.detach().numpy() / spread
    return Presence(
        weights=tuple(round(float(value), 6) for value in slopes),
        bias=round(float(bias.item() - slopes @ mean), 6),
    )


def _minimise(parameters: list[torch.Tensor], loss: Callable[[], torch.Tensor]) -> None:
    """L-BFGS, from where the parameters are."""
    optimizer = torch.optim.LBFGS(parameters, max_iter=4 * _ROUNDS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(closure)
