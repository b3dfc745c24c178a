"""Exponential moving average of named parameters (the weights that samples are drawn with and that ship)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn


class NamedEMA:
    """diffusers' `EMAModel` with the parameters' names kept, and a context in which the average stands in for them.

    Args:
        parameters: what is averaged, by name.
        decay: of the average, in [0, 1).
        place: `device`: beside the parameters. `cpu`: in main memory; every step then sends the parameters there.
            `off`: no average; the parameters stand for themselves.
    """

    def __init__(
        self, parameters: dict[str, nn.Parameter], decay: float, place: Literal["device", "cpu", "off"] = "device"
    ) -> None:
        self.parameters = parameters if place != "off" else {}
        self.place = place
        # Warm-up 1 - (1 + step)^(-2/3), at most `decay`: the average follows closely at first. It reaches 0.99 after a
        # thousand steps and 0.999 after thirty thousand, so in a short run the warm-up is what counts.
        self.model = EMAModel(list(self.parameters.values()), decay=decay, use_ema_warmup=True, foreach=True)
        if place == "cpu":
            self.model.to("cpu")

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The averages by name (live, not copies)."""
        return dict(zip(self.parameters, self.model.shadow_params, strict=True))

    def update(self, step: int) -> None:
        """Take one step of the average; `step` sets the warm-up, so a resumed run continues where it was."""
        if self.place == "device":
            self.model.optimization_step = step
            self.model.step(list(self.parameters.values()))
            return
        share = 1 - self.model.get_decay(step + 1)
        with torch.no_grad():
            for parameter, average in zip(self.parameters.values(), self.model.shadow_params, strict=True):
                # One at a time: main memory needs no second copy of the model for it.
                average.sub_((average - parameter.detach().to("cpu")) * share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model's parameters hold the averages."""
        if not self.parameters:
            yield
            return
        live = [p.detach().to("cpu" if self.place == "cpu" else p.device, copy=True) for p in self.parameters.values()]
        try:
            self._put(self.model.shadow_params)
            yield
        finally:
            self._put(live)

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        # One by one: tensors in pieces (FSDP2) know no copying of many at once.
        for parameter, value in zip(self.parameters.values(), values, strict=True):
            parameter.copy_(value)
