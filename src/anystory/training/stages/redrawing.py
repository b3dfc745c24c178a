"""Latents as the U-Net draws them, of true pictures: what a decoder sees when pictures are sampled.

A sampled latent is smoother than an encoded one, and a decoder that knows encoded ones alone makes a blurred picture of
it. Here a true picture's latents get some noise, and the U-Net's one guess of what was there stands in for them: it is
smooth in the same way, and the sharp picture that belongs to it is known.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from anystory.training.model.components import ModelFolder
from anystory.training.stages.common import NoiseSchedule, size_condition, unet_output


class Redrawing(nn.Module):
    """The model's U-Net, frozen and without text, as SDXL has it where a prompt is dropped.

    Args:
        folder: of the model.
        latest: the latest time step that latents are noised to, as a share of the schedule; each one's is uniform
            below it.

    Raises:
        ValueError: the folder has no U-Net yet.
    """

    def __init__(self, folder: ModelFolder, latest: float) -> None:
        super().__init__()
        self.unet: UNet2DConditionModel = folder.load("unet")
        self.schedule = NoiseSchedule(folder.load("scheduler"))
        self.latest = latest
        self.resolution = folder.recipe.resolution

    @torch.no_grad()
    def forward(self, latents: Tensor, generator: torch.Generator) -> Tensor:
        """The U-Net's guess (B, z, h, w) of scaled latents (B, z, h, w), each through noise of its own strength."""
        count, device = len(latents), latents.device
        steps = torch.rand(count, generator=generator, device=device) * self.latest * self.schedule.steps
        t, noise = steps.long(), torch.randn(latents.shape, generator=generator, device=device)
        noisy, _ = self.schedule.add_noise(latents, noise, t)
        config: Any = self.unet.config
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        no_text = latents.new_zeros(count, 1, config.cross_attention_dim), latents.new_zeros(count, pooled)
        sizes = size_condition(count, self.resolution, device)
        predicted = unet_output(self.unet, noisy, t, no_text, sizes)
        return self.schedule.clean(noisy, predicted.to(noisy), t)
