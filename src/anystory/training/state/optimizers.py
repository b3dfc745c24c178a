"""The optimizer of a stage, and the fp32 weights it works on where they are not those that the device computes with."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from anystory.training.recipe import StageConfig
from anystory.training.state.muon import EDGES, Muon


def build_optimizer(
    config: StageConfig, parameters: dict[str, nn.Parameter], edges: Iterable[str] = EDGES
) -> torch.optim.Optimizer:
    """AdamW or Muon over `parameters`, in their order; `edges` marks what Muon leaves to AdamW (`Stage.muon_edges`).

    Raises:
        ValueError: 8 bits were asked for, and bitsandbytes is not installed.
    """
    settings: dict[str, Any] = {
        "lr": config.learning_rate,
        "betas": config.betas,
        "weight_decay": config.weight_decay,
    }
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters.values(), fused=True, **settings)
    if config.optimizer == "muon":
        return Muon(parameters, adamw_ratio=config.muon_adamw_ratio, edges=edges, **settings)
    try:
        kinds: Any = import_module("bitsandbytes.optim")
    except ImportError as error:
        raise ValueError(
            f"optimizer {config.optimizer!r} needs bitsandbytes: pip install 'anystory[8bit]', or take 'adamw'"
        ) from error
    kind = {"adamw8bit": kinds.AdamW8bit, "paged_adamw8bit": kinds.PagedAdamW8bit}[config.optimizer]
    return kind(parameters.values(), **settings)


def moment_names(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> tuple[str, ...]:
    """What an optimizer of `build_optimizer` calls the moments it keeps of `parameter`."""
    if isinstance(optimizer, Muon):
        return ("momentum_buffer",) if optimizer.orthogonal(parameter) else ("exp_avg", "exp_avg_sq")
    return ("exp_avg", "exp_avg_sq") if isinstance(optimizer, torch.optim.AdamW) else ("state1", "state2")


def keeps_channels_last(config: StageConfig, asked: bool | None, default: bool) -> bool:
    """Whether convolutions' weights lie channels-last in memory: as asked for, else by default where they can.

    Raises:
        ValueError: they cannot. bitsandbytes lays weights out contiguously at every step, and the blocks of its moments
            follow; a checkpoint of one layout would then mix them up in another.
    """
    if config.optimizer in ("adamw", "muon"):
        return default if asked is None else asked
    if asked:
        raise ValueError(
            f"--channels-last does not go with optimizer {config.optimizer!r}, which lays weights out itself"
        )
    return False


class Masters:
    """fp32 weights in main memory, while the device holds and computes with copies in a smaller type.

    The device then needs 4 bytes per trained parameter (bf16 weight and gradient) where fp32 with AdamW needs 16.
    Gradients move to main memory, into fp32, one parameter at a time as the backward pass finishes them, and are summed
    there over the batches of a step; the device forgets them at once.

    Args:
        live: the stage's own parameters, by name; they become `dtype`.
        dtype: what the device computes with.
    """

    def __init__(self, live: dict[str, nn.Parameter], dtype: torch.dtype) -> None:
        self.live = live
        self.parameters = {
            name: nn.Parameter(value.detach().to("cpu", torch.float32, copy=True)) for name, value in live.items()
        }
        """The fp32 weights, by name; the optimizer's, the average's and the checkpoint's."""
        for name, value in live.items():
            value.data = value.data.to(dtype)
            value.register_post_accumulate_grad_hook(self._taker(self.parameters[name]))

    @staticmethod
    def _taker(master: nn.Parameter) -> Any:
        def take(live: Tensor) -> None:
            assert live.grad is not None
            gradient = live.grad.to("cpu", torch.float32)
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            live.grad = None

        return take

    @torch.no_grad()
    def publish(self) -> None:
        """Give the device the weights as they are now."""
        for name, value in self.live.items():
            value.copy_(self.parameters[name])
