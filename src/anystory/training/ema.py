"""Exponential moving average of named parameters (the weights that samples are drawn with and that ship)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn


class NamedEMA:
    """diffusers' `EMAModel` with the parameters' names kept, and a context in which the average stands in for them."""

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float) -> None:
        self.parameters = parameters
        # Warm-up 1 - (1 + step)^(-2/3), at most `decay`: the average follows closely at first. It reaches 0.99 after a
        # thousand steps and 0.999 after thirty thousand, so in a short run the warm-up is what counts.
        self.model = EMAModel(list(parameters.values()), decay=decay, use_ema_warmup=True, foreach=True)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The averages by name (live, not copies)."""
        return dict(zip(self.parameters, self.model.shadow_params, strict=True))

    def update(self, step: int) -> None:
        """Take one step of the average; `step` sets the warm-up, so a resumed run goes on where it was."""
        self.model.optimization_step = step
        self.model.step(list(self.parameters.values()))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model's parameters hold the averages."""
        live = [p.detach().clone() for p in self.parameters.values()]
        try:
            self.model.copy_to(list(self.parameters.values()))
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self.parameters.values(), live, strict=True):
                    parameter.copy_(value)
