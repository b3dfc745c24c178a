"""The weights that a stage trains, with their optimizer and average, on the devices and processes of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from anystory.training.launch.devices import follow_layout
from anystory.training.recipe import StageConfig
from anystory.training.stages.stage import Stage
from anystory.training.state.checkpoint import load_checkpoint
from anystory.training.state.ema import NamedEMA
from anystory.training.state.optimizer_state import OptimizerState
from anystory.training.state.optimizers import Masters, build_optimizer
from anystory.training.state.sharding import full_tensor, ignore_frozen, is_sharded, unsharded
from anystory.training.state.train_state import TrainState


class TrainedWeights:
    """The trained weights of a stage, prepared for a run.

    Args:
        stage: on its device; everything but what it trains is frozen here.
        config: the recipe's settings of it.
        accelerator: of the run.
        computes_in: what the forward pass multiplies in; copies of weights in main memory take this type.

    Raises:
        ValueError: settings that do not go with the run's processes, or an optimizer that is not installed.
    """

    def __init__(self, stage: Stage, config: StageConfig, accelerator: Accelerator, computes_in: torch.dtype) -> None:
        self.stage, self.accelerator = stage, accelerator
        self.max_grad_norm = config.max_grad_norm
        live = stage.freeze_rest()
        self.masters: Masters | None = None
        if config.masters == "cpu":
            if accelerator.num_processes > 1:
                raise ValueError("masters 'cpu' is for one process: with several, shard the weights (fsdp2.yaml)")
            self.masters = Masters(live, computes_in)
        parameters = self.masters.parameters if self.masters else live
        self.optimizer = build_optimizer(config, parameters, stage.muon_edges)
        if is_sharded(accelerator):
            if config.optimizer != "adamw":
                raise ValueError(
                    f"FSDP2 shards the state of optimizer 'adamw' only, not of {config.optimizer!r}: change the "
                    "recipe's optimizer, or use configs/accelerate/ddp.yaml"
                )
            ignore_frozen(accelerator, [p for p in stage.parameters() if not p.requires_grad])
        self.module: Any
        self.module, _ = accelerator.prepare(stage, self.optimizer)  # of FSDP2, the optimizer gets the shards
        if is_sharded(accelerator):  # the stage has shards in their place, under the same names
            parameters = stage.trained_parameters()
        self.device = torch.device("cpu") if self.masters else accelerator.device
        self.ema = NamedEMA(parameters, config.ema_decay, config.ema)
        if config.ema == "device":
            self.ema.model.to(self.device)
        self.state = TrainState(parameters, self.ema.tensors, OptimizerState(self.optimizer, parameters))

    def load(self, checkpoint: Path) -> None:
        """Restore what a checkpoint holds, and where the run stood."""
        load_checkpoint(checkpoint, self.state)
        follow_layout(self.optimizer)
        if self.masters:
            self.masters.publish()

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def clip(self) -> Tensor:
        """Scale the gradients down to the largest norm; returns the norm that they had."""
        norm = self.accelerator.clip_grad_norm_(list(self.state.parameters.values()), self.max_grad_norm)
        assert norm is not None  # it is None under DeepSpeed only
        return full_tensor(norm)

    def step(self, number: int) -> None:
        """Take a step, the `number`-th from 0, and forget the gradients."""
        self.optimizer.step()  # accelerate's own wrapper looks for a package on the disk at every step
        self.optimizer.zero_grad(set_to_none=True)
        if self.masters:
            self.masters.publish()
        self.ema.update(number)

    def unsharded(self) -> AbstractContextManager[None]:
        """Inside, any part of the stage can be run by itself. Under FSDP2 every process must, and the same."""
        return unsharded(self.stage)

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
