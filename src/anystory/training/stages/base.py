"""Stage `base`: text to image. Captions name kind, pose, place, light — never who somebody is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from anystory.training.data import storyworld
from anystory.training.data.samples import world_samples
from anystory.training.data.stream import Sample, collate
from anystory.training.model.components import ModelFolder
from anystory.training.stages.common import DiffusionOptions, read_options, sheet, to_pixels
from anystory.training.stages.diffusion import DiffusionStage
from anystory.training.stages.stage import move


class BaseOptions(DiffusionOptions):
    """Settings of the diffusion loss."""

    train_text_encoder: bool = False
    """Let the text encoder learn from this loss, too, after the contrastive one."""


class BaseStage(DiffusionStage):
    """Diffusion loss on scenes."""

    name = "base"
    options_type = BaseOptions
    options: BaseOptions

    def __init__(self, folder: ModelFolder) -> None:
        super().__init__(folder)
        self.options = read_options(BaseOptions, folder.recipe.stages["base"].options, "base")

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        trained = {f"unet.{k}": p for k, p in self.unet.named_parameters()}
        if self.options.train_text_encoder:
            trained |= {f"text_encoder.{k}": p for k, p in self.texts.pooled.named_parameters()}
        return trained

    def fetch(self) -> Callable[[int], Sample]:
        return world_samples(self.folder.recipe, storyworld.scene_sample)

    def forward(self, batch: Sample, generator: torch.Generator) -> dict[str, Tensor]:
        device, count = self.device(), len(batch["caption"])
        loss, plain = self.diffusion_loss(
            batch,
            generator,
            text=self.text(batch),
            text_drop=torch.rand(count, generator=generator, device=device) < self.options.caption_drop,
        )
        return {"loss": loss, "mse": plain}

    @torch.no_grad()
    def sample_picture(self) -> Image.Image:
        """Eight pictures from captions of scenes that training does not see, above the scenes themselves."""
        fetch = self.fetch()
        batch = move(collate([fetch(2**40 + i) for i in range(8)]), self.device())
        return sheet([list(self.draw(batch)), list(to_pixels(batch["image"]))], zoom=3)

    def export(self, folder: Path) -> None:
        self.folder.save("unet", self.unet)
        self.folder.save("scheduler", self.scheduler)
        if self.options.train_text_encoder:
            self.folder.save("text_encoder_2", self.texts.pooled)
