"""What an optimizer remembers of each parameter, as checkpoints hold it: full tensors, by the parameter's name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from anystory.training.state.optimizers import moment_names
from anystory.training.state.sharding import full_tensor, shard

NamedTensors = dict[str, Tensor]


class OptimizerState:
    """The state of a torch optimizer, also where FSDP2 shards it: then every process must make every call.

    docs/decisions.md ("Libraries") says why this is not `torch.distributed.checkpoint.state_dict`.

    Args:
        optimizer: of `parameters`, in their order.
        parameters: by name.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter]) -> None:
        self._optimizer = optimizer
        self._parameters = parameters

    def moment_names(self, name: str) -> tuple[str, ...]:
        """Names of the tensors of the parameter `name` that have its shape: AdamW's two moments, Muon's one."""
        return moment_names(self._optimizer, self._parameters[name])

    def tensors(self) -> Iterator[tuple[str, NamedTensors]]:
        """Each parameter's name and tensors, one parameter at a time; none of those that no step has reached yet.

        A plain count, as 8-bit optimizers have, becomes an int64 scalar.
        """
        state = self._optimizer.state_dict()["state"]
        for index, name in enumerate(self._parameters):
            found: NamedTensors = {}
            for key, value in _flat(state.get(index, {})):
                if isinstance(value, int):
                    value = torch.tensor(value)
                if isinstance(value, Tensor):
                    found[key] = full_tensor(value)
            if found:
                yield name, found

    def restore(self, found: dict[str, NamedTensors]) -> None:
        """Take over what `tensors` gave; names and shapes must fit."""
        state = {
            index: {key: _as_held(value, parameter) for key, value in found[name].items()}
            for index, (name, parameter) in enumerate(self._parameters.items())
            if name in found
        }
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": state})


def _flat(state: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The entries of a parameter's state; bitsandbytes keeps tensors in a dictionary within."""
    for key, value in state.items():
        if isinstance(value, dict):
            yield from _flat(value)
        else:
            yield key, value


def _as_held(value: Tensor, parameter: Tensor) -> Tensor | int:
    """A stored tensor as the optimizer holds it: sharded like the parameter, a plain count as a number."""
    if value.shape == parameter.shape:
        return shard(value, parameter)
    return int(value) if value.ndim == 0 and value.dtype == torch.int64 else value
