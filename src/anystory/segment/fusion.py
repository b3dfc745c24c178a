"""Fusion: which layers and noise levels say how much about who owns a pixel, and when a subject counts as there.

The numbers are fitted once for a model (`fitting.py`) and lie in its adapter's `config.json`, as `segmentation`.

Shapes: N subjects, S = N + 1 slots with the background last, F = levels × layers maps of a slot, h × w their grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
from typing_extensions import Self

from anystory.segment.levels import DEFAULT_LEVELS, check_levels

__all__ = ["Evidence", "Fusion", "Presence", "pooled_evidence"]

DEFAULT_THRESHOLD = 0.5
_TINY = 1e-12
_SMALL = 1e-3
"""Added to shares of the picture before their logarithm."""


class Evidence(NamedTuple):
    """What network and router say about a picture, before it is fused."""

    layers: tuple[str, ...]
    """The routed layers, in the order in which they run."""
    odds: np.ndarray
    """(levels, layers, N, h, w) float32: log-odds of each subject against the background, means over the draws of
    noise, on the grid of the largest map."""
    errors: np.ndarray
    """(levels, 2, h, w) float32: the network's squared error with the subjects, and without."""


@dataclass(frozen=True, kw_only=True)
class Presence:
    """A logistic regression that tells subjects in the picture from absent ones by their maps (`pooled_evidence`)."""

    weights: tuple[float, ...]
    """Of each number of `pooled_evidence`."""
    bias: float

    def probability(self, pooled: np.ndarray) -> np.ndarray:
        """Pooled evidence (N, P) to probabilities (N,)."""
        return 1 / (1 + np.exp(-(pooled @ np.asarray(self.weights) + self.bias)))


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """How the maps of one model are fused.

    Raises:
        ValueError: values that do not fit together.
    """

    levels: tuple[float, ...] = DEFAULT_LEVELS
    """Noise levels in (0, 1): shares of the model's time steps."""
    draws: int = 1
    """How often noise is drawn at each level."""
    layers: tuple[str, ...] = ()
    """Names of the routed layers that `weights` are for; empty: all of a model, equally."""
    weights: tuple[tuple[float, ...], ...] = ()
    """Of the log-odds of each level (outer) and layer (inner); empty: all equally."""
    bias: float = 0.0
    """Added to every subject's score: above 0 for it, below for the background."""
    presence: Presence | None = None
    """None: a subject is there where it wins a pixel with more than `threshold` of the probability."""
    threshold: float = DEFAULT_THRESHOLD
    """The least confidence of a subject that counts as there, in [0, 1]."""

    def __post_init__(self) -> None:
        check_levels(self.levels)
        if not isinstance(self.draws, int) or self.draws < 1:
            raise ValueError(f"`draws` must be a positive integer, got {self.draws!r}")
        if bool(self.weights) != bool(self.layers):
            raise ValueError("`weights` and `layers` go together: give both or neither")
        sizes = {len(row) for row in self.weights}
        if self.weights and (len(self.weights) != len(self.levels) or sizes != {len(self.layers)}):
            raise ValueError(
                f"`weights` must have a row for each of {len(self.levels)} levels and a number for each of "
                f"{len(self.layers)} layers, got {len(self.weights)} rows of {sorted(sizes)}"
            )
        if self.presence is not None and self.layers:
            size = 2 * len(self.layers) + len(self.levels) + 4
            if len(self.presence.weights) != size:
                raise ValueError(f"`presence` must have {size} weights, got {len(self.presence.weights)}")
        numbers = [self.bias, self.threshold, *(value for row in self.weights for value in row)]
        if self.presence is not None:
            numbers += [self.presence.bias, *self.presence.weights]
        if not all(map(math.isfinite, numbers)) or not 0 <= self.threshold <= 1:
            raise ValueError("`weights` and `bias` must be finite, and `threshold` must lie in 0…1")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` made.

        Raises:
            ValueError: an entry that is missing, unknown or of another kind.
        """
        try:
            if unknown := values.keys() - {field.name for field in fields(cls)}:
                raise ValueError(f"unknown entries {', '.join(sorted(unknown))}")
            presence = values.get("presence")
            given = dict(values) | {
                "levels": tuple(map(float, values["levels"])),
                "layers": tuple(map(str, values["layers"])),
                "weights": tuple(tuple(map(float, row)) for row in values["weights"]),
            }
            if presence is not None:
                given["presence"] = Presence(
                    weights=tuple(map(float, presence["weights"])), bias=float(presence["bias"])
                )
            return cls(**given)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"the adapter's `segmentation` cannot be read ({error!r:.100}): fit it again with"
                " `anystory adapter segmentation`"
            ) from None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = asdict(self)
        return found | {
            "levels": list(self.levels),
            "layers": list(self.layers),
            "weights": [list(row) for row in self.weights],
            "presence": None
            if self.presence is None
            else asdict(self.presence) | {"weights": list(self.presence.weights)},
        }

    def at(self, levels: Sequence[float] | None, draws: int | None) -> Fusion:
        """The same for other noise levels or draws.

        Other levels than the fitted ones have no weights of their own: each layer then weighs what it does on average,
        and a subject counts as there by its map alone.
        """
        draws = self.draws if draws is None else draws
        if levels is None or tuple(levels) == self.levels:
            return replace(self, draws=draws)
        check_levels(levels)
        weights: tuple[tuple[float, ...], ...] = ()
        if self.weights:
            each = np.asarray(self.weights).sum(axis=0) / len(levels)
            weights = (tuple(map(float, each)),) * len(levels)
        return replace(
            self, draws=draws, levels=tuple(levels), weights=weights, presence=None, threshold=DEFAULT_THRESHOLD
        )

    def matrix(self, layers: Sequence[str]) -> np.ndarray:
        """(levels, layers) weights for a model with these layers.

        Raises:
            ValueError: they are fitted to other layers.
        """
        if not self.weights:
            return np.full((len(self.levels), len(layers)), 1 / (len(self.levels) * len(layers)))
        if tuple(layers) != self.layers:
            raise ValueError(
                f"the adapter's `segmentation` is for other layers ({len(self.layers)} of them, the model has "
                f"{len(layers)}): fit it again with `anystory adapter segmentation`"
            )
        return np.asarray(self.weights)

    def fused(self, found: Evidence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What is made of evidence.

        Returns:
            Probabilities over slots (N + 1, h, w), the background last; each subject's confidence (N,) that it is in
            the picture; and whether that is enough (N,) bool.
        """
        probabilities = self.probabilities(found)
        confidence = self.confidences(found, probabilities)
        return probabilities, confidence, confidence >= self.threshold

    def probabilities(self, found: Evidence) -> np.ndarray:
        """Who owns a pixel of the grid: (N + 1, h, w) float32, a softmax over slots, the background last."""
        scores = np.einsum("tl,tlnhw->nhw", self.matrix(found.layers), found.odds) + self.bias
        scores = np.concatenate([scores, np.zeros_like(scores[:1])])
        powers = np.exp(scores - scores.max(axis=0))
        return (powers / powers.sum(axis=0)).astype(np.float32)

    def confidences(self, found: Evidence, probabilities: np.ndarray) -> np.ndarray:
        """(N,) in [0, 1]: how sure it is that a subject is in the picture."""
        if self.presence is None:
            return probabilities[:-1].max(axis=(1, 2))
        return self.presence.probability(pooled_evidence(found, probabilities))


def pooled_evidence(found: Evidence, probabilities: np.ndarray) -> np.ndarray:
    """What tells a subject that is in the picture from one that is not.

    Args:
        found: What was seen.
        probabilities: (N + 1, h, w), fused.

    Returns:
        (N, P), P = 2 · layers + levels + 4. Each layer's log-odds inside the subject's fused map, against the
        background and against the strongest rival there, as means over levels; how much smaller the network's error is
        there with the references, as a logarithm, at each level; the fused map's peak, its mean inside itself, and its
        size, in soft and in whole pixels.
    """
    rows = []
    for n in range(found.odds.shape[2]):
        own = probabilities[n] / max(float(probabilities[n].sum()), _TINY)
        odds, others = found.odds[:, :, n], np.delete(found.odds, n, axis=2)
        rival = np.maximum(others.max(axis=2), 0) if others.shape[2] else np.zeros_like(odds)
        error, plain = ((found.errors * own).sum(axis=(2, 3)) + _TINY).T
        won = (probabilities.argmax(axis=0) == n).mean()
        shape = [
            float(probabilities[n].max()),
            float((probabilities[n] * own).sum()),
            math.log(probabilities[n].mean() + _SMALL),
            math.log(won + _SMALL),
        ]
        pooled = [(values * own).sum(axis=(2, 3)).mean(axis=0) for values in (odds, odds - rival)]
        rows.append(np.concatenate([*pooled, np.log(plain / error), shape]))
    return np.stack(rows)
