"""Stage `base`: text to image. Captions name kind, pose, place, light — never who somebody is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from .. import data
from ..components import ModelFolder
from ..loop import Stage
from ..stream import Sample, collate
from .common import (
    NoiseSchedule,
    Options,
    Share,
    drop_text,
    encode_text,
    read_options,
    seeded_normal,
    sheet,
    size_condition,
    to_pixels,
    tokenize,
    weighted_mse,
)
from .sampling import sample_latents


class BaseOptions(Options):
    """Settings of the diffusion loss."""

    caption_drop: Share = 0.1
    """Share of samples without text, for classifier-free guidance."""
    foreground_weight: float = Field(default=0.0, ge=0)
    """Extra weight of the loss on characters, which cover little of the picture and hold most of what is looked at."""
    train_text_encoder: bool = False
    """Let the text encoder go on learning from this loss, starting from the contrastive one."""


class BaseStage(Stage):
    """Diffusion loss on scenes, of what the scheduler says is predicted: velocity or noise."""

    name = "base"
    options_type = BaseOptions

    def __init__(self, folder: ModelFolder) -> None:
        super().__init__()
        self.folder = folder
        self.options = read_options(BaseOptions, folder.recipe.stages["base"].options, "base")
        self.vae = folder.load("vae")
        self.tokenizer = folder.load("tokenizer_2")
        self.text_encoder = folder.load("text_encoder_2")
        self.scheduler = folder.load_or_build("scheduler")
        self.schedule = NoiseSchedule(self.scheduler)
        self.unet = folder.load_or_build("unet")

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        trained = {f"unet.{k}": p for k, p in self.unet.named_parameters()}
        if self.options.train_text_encoder:
            trained |= {f"text_encoder.{k}": p for k, p in self.text_encoder.named_parameters()}
        return trained

    def fetch(self) -> Callable[[int], Sample]:
        recipe = self.folder.recipe
        return partial(data.scene_sample, level=recipe.level, size=recipe.resolution, seed=recipe.seed)

    def forward(self, batch: Sample, generator: torch.Generator) -> dict[str, Tensor]:
        pixels = to_pixels(batch["image"])
        device, count = pixels.device, len(pixels)
        with torch.no_grad():
            clean = self.vae.encode(pixels).latent_dist.mode() * self.vae.config.scaling_factor
        t = torch.randint(self.schedule.steps, (count,), generator=generator, device=device)
        noise = torch.randn(clean.shape, generator=generator, device=device)
        noisy, target = self.schedule.add_noise(clean, noise, t)
        hidden, pooled = encode_text(self.text_encoder, tokenize(self.tokenizer, batch["caption"], device))
        drop = torch.rand(count, generator=generator, device=device) < self.options.caption_drop
        hidden, pooled = drop_text(hidden, pooled, drop)
        added = {"text_embeds": pooled, "time_ids": size_condition(count, pixels.shape[-1], device)}
        prediction = self.unet(noisy, t, hidden, added_cond_kwargs=added).sample
        loss, plain = weighted_mse(prediction, target, batch["instances"] > 0, self.options.foreground_weight)
        return {"loss": loss, "mse": plain}

    @torch.no_grad()
    def sample_picture(self) -> Image.Image:
        """Eight pictures from captions of scenes that training does not see, above the scenes themselves."""
        fetch = self.fetch()
        batch = collate([fetch(2**40 + i) for i in range(8)])
        device = next(self.unet.parameters()).device
        pixels = to_pixels(batch["image"])
        hidden, pooled = encode_text(self.text_encoder, tokenize(self.tokenizer, batch["caption"], device))
        size = self.unet.config.sample_size
        noise = seeded_normal((8, self.unet.config.in_channels, size, size), 0, device)
        sizes = size_condition(8, pixels.shape[-1], device)
        guidance = self.folder.recipe.defaults["guidance_scale"]
        latents = sample_latents(self.unet, self.scheduler, hidden, pooled, sizes, noise, guidance=guidance)
        return sheet([list(self.vae.decode(latents).sample), list(pixels)], zoom=3)

    def export(self, folder: Path) -> None:
        self.folder.save("unet", self.unet)
        self.folder.save("scheduler", self.scheduler)
        if self.options.train_text_encoder:
            self.folder.save("text_encoder_2", self.text_encoder)
