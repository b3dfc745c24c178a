"""What an optimizer remembers of each parameter, as checkpoints hold it: whole, and by the parameter's name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .optimizers import moment_names
from .sharding import like, whole

NamedTensors = dict[str, Tensor]


class Moments(Protocol):
    """An optimizer's tensors, wherever they live. Where they are in pieces, every process must take part in both."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the tensors of a parameter that have its shape: AdamW's two moments."""
        ...

    def tensors(self) -> Iterator[tuple[str, NamedTensors]]:
        """Each parameter's name and tensors, one parameter at a time; none of those that no step has reached yet."""
        ...

    def restore(self, found: dict[str, NamedTensors]) -> None:
        """Take over what `tensors` gave, all of it known and of the right shape."""
        ...


class HeldMoments:
    """Those of a torch optimizer that holds them itself, whole or in pieces as FSDP2 cuts its parameters.

    Args:
        optimizer: of `parameters`, in their order.
        parameters: by name.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter]) -> None:
        self._optimizer = optimizer
        self._parameters = parameters
        self.kinds = moment_names(optimizer)

    def tensors(self) -> Iterator[tuple[str, NamedTensors]]:
        """See `Moments`. A bare count, as 8-bit optimizers have, comes as an int64 scalar."""
        moments = self._optimizer.state_dict()["state"]
        for index, name in enumerate(self._parameters):
            found: NamedTensors = {}
            for key, value in _flat(moments.get(index, {})):
                if isinstance(value, int):
                    value = torch.tensor(value)
                if isinstance(value, Tensor):
                    found[key] = whole(value)
            if found:
                yield name, found

    def restore(self, found: dict[str, NamedTensors]) -> None:
        """See `Moments`."""
        moments = {
            index: {key: _as_held(value, parameter) for key, value in found[name].items()}
            for index, (name, parameter) in enumerate(self._parameters.items())
            if name in found
        }
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": moments})


def _flat(state: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The entries of a parameter's state; bitsandbytes keeps tensors in a dictionary within."""
    for key, value in state.items():
        if isinstance(value, dict):
            yield from _flat(value)
        else:
            yield key, value


def _as_held(value: Tensor, parameter: Tensor) -> Tensor | int:
    """A stored tensor of the optimizer's as it holds it: in pieces as the parameter is, a bare count as a number."""
    if value.shape == parameter.shape:
        return like(value, parameter)
    return int(value) if value.ndim == 0 and value.dtype == torch.int64 else value
