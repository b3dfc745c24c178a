"""What training changes: the tensors and counters that a checkpoint is a copy of."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from anystory.training.state.optimizer_state import OptimizerState


@dataclass
class Progress:
    """How far a stage is."""

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    """Time spent training, over all runs."""


@dataclass
class TrainState:
    """The live state of a stage in training."""

    parameters: dict[str, nn.Parameter]
    """What is trained, in the optimizer's order."""
    averages: dict[str, Tensor]
    """Their exponential moving averages; empty if none are kept."""
    optimizer: OptimizerState
    progress: Progress = field(default_factory=Progress)
