"""Metrics on samples that training never sees: how they are averaged, and drawn over the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from anystory.files import atomic_write
from anystory.training.data.stream import Sample, collate

HELD_OUT = 2**40
"""Stream position of the first held-out sample: no run gets so far."""
LEVELS = 5
"""Bins of the time steps, 0 with the least noise."""
PREFIX = "val_"
"""Of validation's metrics in the log."""


class RunningMean:
    """Means of named metrics over any number of batches."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, total: float, count: int = 1) -> None:
        """Count `count` values whose sum is `total`."""
        self._sums[name] = self._sums.get(name, 0.0) + total
        self._counts[name] = self._counts.get(name, 0) + count

    def means(self) -> dict[str, float]:
        """The mean of every metric that was counted at least once."""
        return {name: self._sums[name] / count for name, count in self._counts.items() if count}


def held_out_batches(fetch: Callable[[int], Sample], samples: int, batch_size: int) -> list[Sample]:
    """The first `samples` held-out samples in batches, in main memory."""
    return [
        collate([fetch(HELD_OUT + index) for index in range(first, min(first + batch_size, samples))])
        for first in range(0, samples, batch_size)
    ]


def level_steps(level: int, count: int, steps: int) -> Tensor:
    """Fixed integer time steps (count,), spread evenly over bin `level` of `steps`."""
    places = (torch.arange(count) + 0.5) / count
    return ((level + places) / LEVELS * steps).long()


def routing_overlap(maps: Iterable[Tensor], masks: Tensor, present: Tensor) -> tuple[float, int]:
    """How well the routing of a batch fits the truth.

    The maps' mean over layers, enlarged to the masks' size, gives every pixel to its likeliest slot.

    Args:
        maps: of every layer (B, N + 1, h, w), probabilities, the background last.
        masks: true masks (B, N, H, W), 0 or 1.
        present: (B, N) bool, which subjects there are.

    Returns:
        the sum of intersections over unions, and of how many subjects: those present that can be seen.
    """
    size = masks.shape[-2:]
    mean = torch.stack([F.interpolate(m.float(), size=size, mode="bilinear") for m in maps]).mean(dim=0)
    owners = mean.argmax(dim=1, keepdim=True)
    won = owners == torch.arange(masks.shape[1], device=masks.device)[None, :, None, None]
    true = masks > 0.5
    seen = present & true.flatten(2).any(dim=-1)
    both, either = ((won & true).flatten(2).sum(-1), (won | true).flatten(2).sum(-1))
    overlaps = (both / either.clamp_min(1))[seen]
    return float(overlaps.sum()), int(seen.sum())


def draw_validation(records: Sequence[dict[str, float]], path: Path) -> bool:
    """Draw the metrics of a stage's log over its steps; returns whether there are any, and matplotlib is installed.

    Loss by noise level in one panel, everything else that has been measured in another.
    """
    records = [r for r in records if any(key.startswith(PREFIX) for key in r)]
    if not records:
        return False
    try:
        from matplotlib.figure import Figure
    except ImportError:  # the `train` extra is not installed: the numbers are in the log
        return False
    names = list(dict.fromkeys(key for r in records for key in r if key.startswith(PREFIX)))
    losses = [name for name in names if name.startswith(f"{PREFIX}loss")]
    others = [name for name in names if name not in losses]
    panels = [group for group in (losses, others) if group]
    figure = Figure(figsize=(5 * len(panels), 3.5), layout="constrained")
    for panel, group in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name in group:
            points = [(r["step"], r[name]) for r in records if name in r]
            panel.plot(*zip(*points, strict=True), marker=".", label=name.removeprefix(PREFIX).replace("_", " "))
        panel.set_xlabel("step")
        panel.legend(fontsize="small")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=100)
    return True
