"""DeepSpeed's ZeRO-2 (Rajbhandari et al. 2020): gradients and moments in pieces, weights whole in every process.

DeepSpeed's engine averages the gradients and takes the steps. Precision, accumulation, rates and checkpoints are the
loop's as in every run, and a checkpoint is the same as any other: a run may go on under another configuration.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn

from .moments import NamedTensors
from .optimizers import moment_names
from .recipe import StageConfig

BUCKET = 200_000_000
"""Numbers that go round at a time, unless accelerate's settings say otherwise: 0.8 GB of fp32 gradients."""


def is_zero(accelerator: Accelerator) -> bool:
    """Whether the run was launched on DeepSpeed."""
    return accelerator.distributed_type == DistributedType.DEEPSPEED


def check_settings(accelerator: Accelerator) -> None:
    """Refuse what `ZeroEngine` does not do.

    Raises:
        ValueError: another stage than 2, weights or moments in main memory, or a precision of DeepSpeed's own.
    """
    plugin: Any = accelerator.state.deepspeed_plugin
    asked = plugin.deepspeed_config
    zero = asked["zero_optimization"]
    if zero["stage"] != 2:
        raise ValueError(
            f"DeepSpeed's ZeRO stage {zero['stage']} is not supported: take stage 2 "
            "(configs/accelerate/deepspeed_zero2.yaml), or configs/accelerate/fsdp2.yaml, which cuts the weights too"
        )
    if any(zero.get(f"offload_{what}", {}).get("device", "none") != "none" for what in ("optimizer", "param")):
        raise ValueError(
            "DeepSpeed's offloading is not supported: set offload_optimizer_device and offload_param_device to none. "
            "On one GPU the recipe's `masters: cpu` keeps weights and moments in main memory"
        )
    if any(asked.get(kind, {}).get("enabled") for kind in ("bf16", "fp16")):
        raise ValueError(
            "DeepSpeed must leave the weights in fp32: set mixed_precision to 'no'; the run's own --precision bf16 "
            "computes in bf16 all the same"
        )


class ZeroEngine:
    """A stage under DeepSpeed's engine.

    Args:
        stage: on its device, everything frozen but what is trained.
        config: the recipe's settings of it.
        parameters: what is trained, by name.
        optimizer: of `parameters`; the engine puts its pieces in their place.
        accelerator: of the run, launched on DeepSpeed.

    Raises:
        ValueError: an optimizer other than AdamW in fp32, whose moments alone are known to be cut as weights are.
    """

    def __init__(
        self,
        stage: nn.Module,
        config: StageConfig,
        parameters: dict[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
    ) -> None:
        if config.optimizer != "adamw" or config.masters != "device":
            raise ValueError("DeepSpeed goes with optimizer 'adamw' and masters 'device': it cuts the moments itself")
        plugin: Any = accelerator.state.deepspeed_plugin
        # One state for all accelerators of a process: what an earlier stage has set is set again.
        plugin.deepspeed_config |= {
            "train_micro_batch_size_per_gpu": config.batch_size,
            "train_batch_size": config.batch_size * accelerator.num_processes,
            "gradient_accumulation_steps": 1,  # parts of a step are the loop's; `backward` says which is the last
            "gradient_clipping": config.max_grad_norm,
        }
        for bucket in ("reduce_bucket_size", "allgather_bucket_size"):
            plugin.deepspeed_config["zero_optimization"].setdefault(bucket, BUCKET)
        accelerator.deepspeed_engine_wrapped = None  # an earlier stage's, which would be kept alive
        self.engine: Any = accelerator.prepare(stage, optimizer)[0]
        self._zero: Any = self.engine.optimizer
        self._parameters = parameters
        self.kinds = moment_names(optimizer)

    def backward(self, loss: Tensor, last: bool) -> None:
        """Gather the gradients of a part of a step; `last` says that a step follows."""
        # Pieces go round in buckets that must be alike in all processes, while a part of a router may see no pixel in
        # one of them: every parameter gets a gradient, if only of zeros.
        touched = torch.stack([p.flatten()[0] for p in self._parameters.values()]).sum()
        self.engine.set_gradient_accumulation_boundary(is_boundary=last)
        self.engine.backward(loss + 0 * touched)

    def norm(self) -> Tensor:
        """Norm of the gradient of all processes before clipping; not a number if it has none."""
        norm = self._zero.scaled_global_norm()
        return torch.where(norm < 0, torch.nan, norm)  # DeepSpeed's own sign for it is -1

    def step(self) -> None:
        """Clip, take a step and forget the gradients."""
        self.engine.step()

    def weights_changed(self) -> None:
        """The parameters were set by somebody else: the engine's own pieces follow."""
        self._zero.refresh_fp32_params()

    def tensors(self) -> Iterator[tuple[str, NamedTensors]]:
        """See `Moments`."""
        whole_state = _utilities().safe_get_full_optimizer_state
        states = [self._zero.optimizer.state.get(piece, {}) for piece in self._pieces]
        if not all(states):
            return
        step = states[0]["step"]  # one for all parameters here
        for name, parameter in self._parameters.items():
            yield name, {key: whole_state(parameter, key) for key in self.kinds} | {"step": step}

    def restore(self, found: dict[str, NamedTensors]) -> None:
        """See `Moments`. Parameters that no step had reached begin with moments of zero."""
        if not found:
            return
        utilities = _utilities()
        step = max(float(tensors["step"]) for tensors in found.values())
        for group, piece in zip(self._zero.bit16_groups, self._pieces, strict=True):
            count = torch.tensor(step, device=piece.device)
            self._zero.optimizer.state[piece] = {"step": count} | {key: torch.zeros_like(piece) for key in self.kinds}
            utilities.lazy_init_hp_params_optimizer_state(group, piece, self._zero.optimizer.state)
        for name, tensors in found.items():
            for key in self.kinds:
                parameter = self._parameters[name]
                utilities.safe_set_full_optimizer_state(parameter, tensors[key].to(parameter.device), key)

    @property
    def _pieces(self) -> list[Tensor]:
        """What this process holds of the flattened weights, a tensor for each group of parameters."""
        return self._zero.single_partition_of_fp32_groups


def _utilities() -> Any:
    return import_module("deepspeed.utils")  # an extra, which pyright may not find
