"""What the three stages with a diffusion loss share: the base model, one batch's loss, and the pictures they log."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from anystory.models.patch_autoencoder import PatchAutoencoder

from ..components import ModelFolder
from ..loop import Stage
from ..stream import Sample
from .common import (
    NoiseOptions,
    NoiseSchedule,
    drop_text,
    encode_text,
    seeded_normal,
    size_condition,
    to_pixels,
    tokenize,
    weighted_mse,
)
from .sampling import sample_latents


class DiffusionStage(Stage):
    """A stage around the text-to-image model; the U-Net and its scheduler are made anew where the folder has none."""

    vae: PatchAutoencoder
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModelWithProjection
    scheduler: EulerDiscreteScheduler
    unet: UNet2DConditionModel
    options: NoiseOptions

    def __init__(self, folder: ModelFolder) -> None:
        super().__init__()
        self.folder = folder
        self.vae = folder.load("vae")
        self.tokenizer = folder.load("tokenizer_2")
        self.text_encoder = folder.load("text_encoder_2")
        self.scheduler = folder.load_or_build("scheduler")
        self.schedule = NoiseSchedule(self.scheduler)
        self.unet = folder.load_or_build("unet")

    @torch.no_grad()
    def latents(self, pixels: Tensor) -> Tensor:
        """Scaled latents of pixels (B, 3, H, W) in [-1, 1], without the encoder's own noise."""
        return self.vae.encode(pixels).latent_dist.mode() * self.vae.config.scaling_factor

    def text(self, batch: Sample) -> tuple[Tensor, Tensor]:
        """The captions' condition: hidden states (B, L, d) and pooled (B, p)."""
        ids = tokenize(self.tokenizer, batch["caption"], batch["image"].device)
        return encode_text(self.text_encoder, ids)

    def diffusion_loss(
        self,
        batch: Sample,
        generator: torch.Generator,
        *,
        text: tuple[Tensor, Tensor],
        text_drop: Tensor,
        foreground_weight: float,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Loss of what the scheduler says is predicted (velocity or noise): weighted, and plain for the log.

        Args:
            text: `text(batch)`.
            text_drop: (B,) bool, samples that are seen without text, for classifier-free guidance.
            foreground_weight: extra weight on characters.
            attention_kwargs: for the attention processors.
        """
        pixels = to_pixels(batch["image"])
        device, count = pixels.device, len(pixels)
        clean = self.latents(pixels)
        hidden, pooled = drop_text(*text, text_drop)
        t = self.options.timesteps(count, self.schedule.steps, generator, device)
        noise = torch.randn(clean.shape, generator=generator, device=device)
        noisy, target = self.schedule.add_noise(clean, noise, t)
        added = {"text_embeds": pooled, "time_ids": size_condition(count, pixels.shape[-1], device)}
        output = self.unet(noisy, t, hidden, added_cond_kwargs=added, cross_attention_kwargs=attention_kwargs)
        return weighted_mse(output.sample, target, batch["instances"] > 0, foreground_weight)

    @torch.no_grad()
    def draw(self, batch: Sample, attention_kwargs: dict[str, Any] | None = None) -> Tensor:
        """Pictures (B, 3, H, W) of the batch's captions, from noise that is always the same, with guidance."""
        device, count = batch["image"].device, len(batch["caption"])
        side = self.unet.config["sample_size"]
        noise = seeded_normal((count, self.unet.config["in_channels"], side, side), 0, device)
        latents = sample_latents(
            self.unet,
            self.scheduler,
            *self.text(batch),
            size_condition(count, batch["image"].shape[1], device),
            noise,
            guidance=self.folder.recipe.defaults["guidance_scale"],
            attention_kwargs=attention_kwargs,
        )
        return self.vae.decode(latents).sample

    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.unet.parameters()).device
