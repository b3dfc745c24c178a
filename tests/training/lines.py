"""The smallest stage: a straight line through points that are a function of their position."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel
from torch import Tensor, nn

from anystory.training.data.stream import Sample
from anystory.training.stages.stage import Stage


def point(index: int) -> Sample:
    """Position `index` of the stream: a point near a line."""
    x = np.random.default_rng(index).normal(size=4).astype(np.float32)
    return {"index": np.int64(index), "x": x, "y": np.array([x.sum(), x[0] - 2 * x[1]], np.float32)}


class LineStage(Stage):
    """Least squares; `seen` holds the positions of every batch it learned from.

    `unused` never takes part, as happens to parts of routers.
    """

    name = "vae"
    options_type = BaseModel

    def __init__(self) -> None:
        super().__init__()
        self.line, self.frozen, self.unused = nn.Linear(4, 2), nn.Linear(4, 4), nn.Linear(2, 2)
        with torch.no_grad():
            for number, parameter in enumerate(self.parameters()):
                generator = torch.Generator().manual_seed(number)
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        self.seen: list[list[int]] = []

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.named_parameters() if not name.startswith("frozen")}

    def fetch(self) -> Callable[[int], Sample]:
        return point

    def forward(self, batch: Sample, generator: torch.Generator) -> dict[str, Tensor]:
        if torch.is_grad_enabled():  # not validation's
            self.seen.append(batch["index"].tolist())
        error = self.line(batch["x"]) - batch["y"]
        return {"loss": error.float().square().mean()}

    def sample_picture(self) -> Image.Image:
        return Image.new("RGB", (2, 2))

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
