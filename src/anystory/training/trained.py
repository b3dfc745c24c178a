"""What a stage trains, as the loop handles it: weights, optimizer and average, wherever they live."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from .checkpoint import Progress, TrainingState, load_checkpoint
from .devices import follow_layout
from .ema import NamedEMA
from .moments import HeldMoments
from .optimizers import Masters, build_optimizer
from .recipe import StageConfig
from .sharding import gathered, is_sharded, keep_whole, whole
from .stage import Stage
from .zero import ZeroEngine, is_zero


class Trained:
    """The trained part of a stage, prepared for the processes and devices of a run.

    Args:
        stage: on its device; everything but what it trains is frozen here.
        config: the recipe's settings of it.
        accelerator: of the run.
        computes_in: what the forward pass multiplies in; copies of weights in main memory take this type.

    Raises:
        ValueError: settings that do not go with the run's processes, or an optimizer that is not installed.
    """

    def __init__(self, stage: Stage, config: StageConfig, accelerator: Accelerator, computes_in: torch.dtype) -> None:
        self.stage = stage
        live = stage.freeze_rest()
        self.masters: Masters | None = None
        if config.masters == "cpu":
            if accelerator.num_processes > 1:
                raise ValueError("masters 'cpu' is for one process: with several, shard the weights (fsdp2.yaml)")
            self.masters = Masters(live, computes_in)
        self.parameters = self.masters.parameters if self.masters else live
        """The fp32 weights, by name, in the optimizer's order."""
        self.optimizer = build_optimizer(config, self.parameters)
        if is_sharded(accelerator):
            if config.optimizer != "adamw":
                raise ValueError(
                    f"optimizer {config.optimizer!r} knows no weights in pieces: take 'adamw', whose moments FSDP2 "
                    "cuts between the processes, or configs/accelerate/ddp.yaml"
                )
            keep_whole(accelerator, [p for p in stage.parameters() if not p.requires_grad])
            stage.run_evenly()
        self.module: Any
        self._zero: ZeroEngine | None = None
        if is_zero(accelerator):
            self._zero = ZeroEngine(stage, config, self.parameters, self.optimizer, accelerator)
            self.module = self._zero.engine
        else:
            self.module, self._prepared = accelerator.prepare(stage, self.optimizer)
        self.accelerator = accelerator
        if is_sharded(accelerator):  # they have been cut into pieces, under the same names
            self.parameters = stage.trained_parameters()
        self.device = torch.device("cpu") if self.masters else accelerator.device
        self.ema = NamedEMA(self.parameters, config.ema_decay, config.ema)
        if config.ema == "device":
            self.ema.model.to(self.device)
        moments = self._zero or HeldMoments(self.optimizer, self.parameters)
        self.state = TrainingState(self.parameters, self.ema.tensors, moments)
        self.max_grad_norm = config.max_grad_norm

    def load(self, checkpoint: Any) -> Progress:
        """Restore what a checkpoint holds, and where the run stood."""
        progress = load_checkpoint(checkpoint, self.state)
        follow_layout(self.optimizer)
        if self._zero:
            self._zero.weights_changed()
        if self.masters:
            self.masters.publish()
        return progress

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def backward(self, loss: Tensor, last: bool) -> None:
        """Add the gradients of a part of a step, which every process computes; `last` says that a step follows."""
        if self._zero:
            self._zero.backward(loss, last)
        else:
            self.accelerator.backward(loss)

    def clip(self) -> Tensor:
        """Scale the gradients down to the largest norm; returns the norm that they had."""
        if self._zero:
            return self._zero.norm()  # it is the engine's step that scales
        norm = self.accelerator.clip_grad_norm_(list(self.parameters.values()), self.max_grad_norm)
        assert norm is not None  # it is None only under DeepSpeed
        return whole(norm)

    def step(self, number: int) -> None:
        """Take a step, the `number`-th from 0, and forget the gradients."""
        if self._zero:
            self._zero.step()
        else:
            self._prepared.step()
            self._prepared.zero_grad(set_to_none=True)
        if self.masters:
            self.masters.publish()
        self.ema.update(number)

    def gathered(self) -> AbstractContextManager[None]:
        """Inside, any part of the stage can be run by itself. Under FSDP2 every process must, and the same."""
        return gathered(self.stage)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the stage computes with the averaged weights."""
        try:
            with self.ema.applied():
                if self.masters:
                    self.masters.publish()
                yield
        finally:
            if self.masters:
                self.masters.publish()
