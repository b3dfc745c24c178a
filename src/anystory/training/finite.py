"""Noticing a loss or a gradient that is not a number, without waiting for the device at every step."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, distributed

from .stream import Sample


@dataclass
class Part:
    """One batch of a step."""

    batch: Sample
    seed: int
    """Of the generator of everything random in it."""
    losses: dict[str, Tensor]


@dataclass
class WatchedStep:
    """What a step computed, and on what."""

    step: int
    parts: list[Part] = field(default_factory=list)
    norm: Tensor | None = None
    """Norm of the gradient before clipping; of all processes' together."""
    finite: Tensor | None = None
    """Whether the norm is a number, and the losses of every process."""
    bad_losses: Tensor | None = None
    """(processes,), not 0 where a loss is not a number."""
    exact: bool = True
    """Whether the parameters are still those that the losses were computed with."""

    @property
    def guilty(self) -> list[int]:
        """The processes with a loss that is not a number; none where it is the gradient alone."""
        return [] if self.bad_losses is None else self.bad_losses.nonzero().flatten().tolist()


class FiniteWatch:
    """Finds the step whose losses or gradient are not finite, before the optimizer can spread it.

    On a CPU the answer is at hand before the optimizer's step. On a GPU asking would make the processor wait, so one
    step is always under way: its answer is read when the next one has been handed over. A fused optimizer is told on
    the device to leave the parameters alone from the bad step on (the way in which loss scaling skips steps); with
    others the parameters are spoilt by then, which `exact` says, and no checkpoint is written of them.

    Several processes tell each other in one small all-reduce a step, which on a GPU waits for nothing: all of them find
    the same step, at the same place, and stop together.

        watch.begin(step)
        watch.saw(batch, seed, losses)      # once for every batch of the step
        bad = watch.judge(norm)             # before the optimizer's step

    Args:
        optimizer: whose steps are held back.
        device: where the losses are.
        delayed: read answers one step late; None is on a GPU only.
        rank, world: this process, and how many there are.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        delayed: bool | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.rank, self.world = rank, world
        self.delayed = device.type == "cuda" if delayed is None else delayed
        self._current = WatchedStep(-1)
        self._waiting: deque[tuple[WatchedStep, Any]] = deque()
        self._tripped = torch.zeros((), device=device)
        self._holds = self.delayed and getattr(optimizer, "_step_supports_amp_scaling", False)
        if self._holds:
            # What torch.amp.GradScaler sets: a fused step does nothing while `found_inf` is not zero.
            target: Any = optimizer
            target.grad_scale, target.found_inf = None, self._tripped

    def begin(self, step: int) -> None:
        """A step begins."""
        self._current = WatchedStep(step)

    def saw(self, batch: Sample, seed: int, losses: dict[str, Tensor]) -> None:
        """A batch's losses are computed (or on their way)."""
        self._current.parts.append(Part(batch, seed, {key: value.detach() for key, value in losses.items()}))

    @torch.no_grad()
    def judge(self, norm: Tensor) -> WatchedStep | None:
        """The step that went wrong, this one or, if answers are delayed, the one before; None if there is none."""
        current = self._current
        current.norm = norm.detach()
        losses = torch.stack([part.losses["loss"].float() for part in current.parts])
        bad = losses.new_zeros(self.world + 1)  # each process's losses, and the gradient
        bad[self.rank] = (~losses.isfinite().all()).float()
        bad[-1] = (~norm.isfinite().all()).float()
        if self.world > 1:
            distributed.all_reduce(bad)
        current.bad_losses, current.finite = bad[:-1], ~bad.any()
        if not self.delayed:
            return None if bool(current.finite) else current
        current.exact = self._holds
        self._tripped.copy_(torch.maximum(self._tripped, (~current.finite).float()))
        self._waiting.append((current, _on_its_way(current.finite)))
        return self._answer() if len(self._waiting) > 1 else None

    def settle(self) -> WatchedStep | None:
        """Wait for the steps under way, as must be done before a checkpoint; the one that went wrong, or None."""
        while self._waiting:
            bad = self._answer()
            if bad is not None:
                return bad
        return None

    def _answer(self) -> WatchedStep | None:
        watched, (copy, event) = self._waiting.popleft()
        if event is not None:
            event.synchronize()
        return None if bool(copy) else watched


def _on_its_way(flag: Tensor) -> tuple[Tensor, Any]:
    """A copy of the flag in main memory, and the event after which it holds."""
    if flag.device.type != "cuda":
        return flag, None
    copy = torch.empty((), dtype=flag.dtype, pin_memory=True)
    copy.copy_(flag, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    return copy, event
