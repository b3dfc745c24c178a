"""Noticing a loss or a gradient that is not a number, without waiting for the device at every step."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, distributed

from anystory.training.data.stream import Sample


@dataclass
class GuardedBatch:
    """One batch of a step."""

    batch: Sample
    seed: int
    """Of the generator of everything random in it."""
    losses: dict[str, Tensor]


@dataclass
class GuardedStep:
    """What a step computed, and on what."""

    step: int
    batches: list[GuardedBatch] = field(default_factory=list)
    norm: Tensor | None = None
    """Norm of the gradient before clipping; of all processes' together."""
    finite: Tensor | None = None
    """Whether the norm is a number, and the losses of every process."""
    bad_losses: Tensor | None = None
    """(processes,), not 0 where a loss is not a number."""
    exact: bool = True
    """Whether the parameters are still those that the losses were computed with."""

    @property
    def failed_processes(self) -> list[int]:
        """The processes with a loss that is not a number; none where it is the gradient alone."""
        return [] if self.bad_losses is None else self.bad_losses.nonzero().flatten().tolist()


class NonFiniteGuard:
    """Finds the step whose losses or gradient are not finite, before the optimizer can spread it.

    On a CPU the answer is at hand before the optimizer's step. On a GPU waiting for it would stall the processor, so
    each step's answer is read during the next step. A fused optimizer is told on the device to leave the parameters
    alone from the bad step on (the way in which loss scaling skips steps); with others the parameters are spoilt by
    then, which `exact` says, and no checkpoint is written of them.

    Several processes tell each other in one small all-reduce a step, which on a GPU waits for nothing: all of them find
    the same step, at the same place, and stop together.

        guard.begin(step)
        guard.record(batch, seed, losses)   # once for every batch of the step
        bad = guard.check(norm)             # before the optimizer's step

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
        self._current = GuardedStep(-1)
        self._waiting: deque[tuple[GuardedStep, Any]] = deque()
        self._tripped = torch.zeros((), device=device)
        self._holds = self.delayed and getattr(optimizer, "_step_supports_amp_scaling", False)
        if self._holds:
            # What torch.amp.GradScaler sets: a fused step does nothing while `found_inf` is not zero.
            target: Any = optimizer
            target.grad_scale, target.found_inf = None, self._tripped

    def begin(self, step: int) -> None:
        """Begin a step."""
        self._current = GuardedStep(step)

    def record(self, batch: Sample, seed: int, losses: dict[str, Tensor]) -> None:
        """Take the losses of one batch, which may still be on their way."""
        self._current.batches.append(GuardedBatch(batch, seed, {key: value.detach() for key, value in losses.items()}))

    @torch.no_grad()
    def check(self, norm: Tensor) -> GuardedStep | None:
        """The step that is not finite: this one or, if answers are delayed, the one before; None if there is none."""
        current = self._current
        current.norm = norm.detach()
        losses = torch.stack([own.losses["loss"].float() for own in current.batches])
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
        self._waiting.append((current, _fetch_flag(current.finite)))
        return self._answer() if len(self._waiting) > 1 else None

    def flush(self) -> GuardedStep | None:
        """Wait for the step under way, as is needed before a checkpoint; returns it if it is not finite."""
        while self._waiting:
            bad = self._answer()
            if bad is not None:
                return bad
        return None

    def _answer(self) -> GuardedStep | None:
        step, (copy, event) = self._waiting.popleft()
        if event is not None:
            event.synchronize()
        return None if bool(copy) else step


def _fetch_flag(flag: Tensor) -> tuple[Tensor, Any]:
    """A copy of the flag in main memory, and the event after which it holds."""
    if flag.device.type != "cuda":
        return flag, None
    copy = torch.empty((), dtype=flag.dtype, pin_memory=True)
    copy.copy_(flag, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    return copy, event
