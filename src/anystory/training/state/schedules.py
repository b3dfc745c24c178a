"""The learning rate by step and by spent budget."""

from __future__ import annotations

import math

from anystory.training.recipe import StageConfig

LINEAR_FLOOR = 0.05
"""Where `linear` ends, as a share of the peak."""


def learning_rate(config: StageConfig, step: int, fraction: float) -> float:
    """Warm-up by steps to the peak, then what `config.schedule` says.

    `constant`: the peak. `linear`: the peak, then straight to a twentieth over the budget's last `decay_fraction`.
    `cosine`: half a cosine from the peak at the start of the budget to zero at its end (Loshchilov & Hutter 2017).

    Args:
        config: the stage's settings.
        step: optimizer steps done.
        fraction: part of the budget that is spent, in [0, 1]; of a budget in minutes, the clock's.
    """
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    return config.learning_rate * warm * _after_warm_up(config, fraction)


def _after_warm_up(config: StageConfig, fraction: float) -> float:
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "cosine":
        return (1 + math.cos(math.pi * min(1.0, fraction))) / 2
    left = (1 - fraction) / config.decay_fraction if config.decay_fraction else 1.0
    return max(LINEAR_FLOOR, min(1.0, left))
