"""What the three stages with a diffusion loss share: the base model, one batch's loss, and the pictures they log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from anystory.pipelines.pixels import encode_pixels
from anystory.training.data.stream import Sample
from anystory.training.launch.devices import recomputed
from anystory.training.model.components import ModelFolder
from anystory.training.stages.common import (
    DiffusionOptions,
    NoiseSchedule,
    drop_text,
    picture_detail,
    seeded_normal,
    size_condition,
    to_pixels,
    unet_output,
    weighted_mse,
)
from anystory.training.stages.sampling import decode_latents, sample_latents
from anystory.training.stages.stage import Stage, move
from anystory.training.stages.text import TextEncoders
from anystory.training.validation import LEVELS, RunningMean, level_steps


def of_pictures(encode: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """What `encode` makes of pixels (B, 3, H, W), for pictures as samples hold them: uint8 (…, H, W, 3) to (…, …)."""

    def of_samples(images: Tensor) -> Tensor:
        return encode(to_pixels(images.flatten(0, -4))).unflatten(0, images.shape[:-3])

    return of_samples


class DiffusionStage(Stage):
    """A stage around the text-to-image model; the U-Net and its scheduler are made anew where the folder has none.

    A batch holds `image` and `caption`, or in their place what is made of them: `latents` (B, z, h, w) scaled, `detail`
    (B, h, w), `text_hidden` (B, L, d) and `text_pooled` (B, p). `size_condition` (B, 6) is what SDXL is told about the
    picture's size and crop; without it a batch counts as whole pictures.
    """

    vae: Any
    scheduler: Any
    unet: UNet2DConditionModel
    options: DiffusionOptions

    def __init__(self, folder: ModelFolder) -> None:
        super().__init__()
        self.folder = folder
        self.vae = folder.load("vae")
        self.texts = TextEncoders(folder)
        self.scheduler = folder.load_or_build("scheduler")
        self.schedule = NoiseSchedule(self.scheduler)
        self.unet = folder.load_or_build("unet")

    def recompute_blocks(self) -> None:
        """From now on keep what enters the networks' blocks, and compute the rest again for the gradients."""
        self.unet.enable_gradient_checkpointing(recomputed)

    @torch.no_grad()
    def latents(self, pixels: Tensor) -> Tensor:
        """Scaled latents, fp32, of pixels (B, 3, H, W) in [-1, 1], without the encoder's own noise."""
        with self.vae_precision(pixels.device):
            return encode_pixels(self.vae, pixels).float()

    def vae_precision(self, device: torch.device) -> AbstractContextManager[Any]:
        """A base's autoencoder computes in the type that its recipe names; one that we train follows the run."""
        return nullcontext() if self.folder.base is None else torch.autocast(device.type, enabled=False)

    def clean_latents(self, batch: Sample) -> Tensor:
        """The latents of the batch's pictures: its own, or encoded here."""
        return batch["latents"].float() if "latents" in batch else self.latents(to_pixels(batch["image"]))

    def text(self, batch: Sample) -> tuple[Tensor, Tensor]:
        """The captions' condition: hidden states (B, L, d) and pooled (B, p)."""
        if "text_hidden" in batch:
            return batch["text_hidden"], batch["text_pooled"]
        return self.texts(batch["caption"], self.device())

    def sizes(self, batch: Sample) -> Tensor:
        """SDXL's six size numbers (B, 6)."""
        if "size_condition" in batch:
            return batch["size_condition"]
        return size_condition(len(batch["caption"]), self.folder.recipe.resolution, self.device())

    def diffusion_loss(
        self,
        batch: Sample,
        generator: torch.Generator,
        *,
        text: tuple[Tensor, Tensor],
        text_drop: Tensor,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Loss of what the scheduler says is predicted (velocity or noise): weighted, and plain for the log.

        Args:
            text: `text(batch)`.
            text_drop: (B,) bool, samples that are seen without text, for classifier-free guidance.
            attention_kwargs: for the attention processors.
        """
        clean = self.clean_latents(batch)
        device, count = clean.device, len(clean)
        hidden, pooled = drop_text(*text, text_drop)
        t = self.options.timesteps(count, self.schedule.steps, generator, device)
        noise = torch.randn(clean.shape, generator=generator, device=device)
        noisy, target = self.schedule.add_noise(clean, noise, t)
        predicted = unet_output(self.unet, noisy, t, (hidden, pooled), self.sizes(batch), attention_kwargs)
        gamma = self.options.min_snr_gamma
        weight = None if gamma is None else self.schedule.min_snr_weight(t, gamma)
        return weighted_mse(predicted, target, batch["instances"] > 0, self.extra_weight(batch), weight)

    def extra_weight(self, batch: Sample) -> float | Tensor:
        """What characters weigh besides 1: alike, or (B, h, w) with their details, known ahead or from the pictures."""
        o = self.options
        if not o.detail_weight:
            return o.foreground_weight
        detail = batch["detail"] if "detail" in batch else self._detail(to_pixels(batch["image"]))
        return o.foreground_weight + o.detail_weight * detail

    def _detail(self, pixels: Tensor) -> Tensor:
        return picture_detail(pixels, (self.latent_size, self.latent_size))

    def encoders_ahead(self) -> dict[str, dict[str, Callable[[Tensor], Tensor]]]:
        detail = {"detail": of_pictures(self._detail)} if self.options.detail_weight else {}
        return {"image": {"latents": of_pictures(self.latents), **detail}}

    @torch.no_grad()
    def validate(self, batches: Sequence[Sample]) -> dict[str, float]:
        """Plain error of the prediction with text, by noise level and over all; noise and time steps are fixed.

        `loss_0` is of the fifth of the time steps with the least noise; `loss` is the mean of all five.
        """
        means = RunningMean()
        for number, held_out in enumerate(batches):
            batch = move(held_out, self.device())
            clean, text, sizes = self.clean_latents(batch), self.text(batch), self.sizes(batch)
            attention = self.held_out_attention(batch)
            for level in range(LEVELS):
                t = level_steps(level, len(clean), self.schedule.steps).to(clean.device)
                noise = seeded_normal(clean.shape, number * LEVELS + level, clean.device)
                noisy, target = self.schedule.add_noise(clean, noise, t)
                attention_kwargs = attention()
                predicted = unet_output(self.unet, noisy, t, text, sizes, attention_kwargs)
                errors = (predicted.float() - target).square().flatten(1).mean(dim=1)
                for name in ("loss", f"loss_{level}"):
                    means.add(name, float(errors.sum()), len(errors))
                self.score_attention(attention_kwargs, batch, means)
        return means.means()

    def held_out_attention(self, batch: Sample) -> Callable[[], dict[str, Any] | None]:
        """What makes the attention processors' arguments of one call on a held-out batch."""
        return lambda: None

    def score_attention(self, attention_kwargs: dict[str, Any] | None, batch: Sample, means: RunningMean) -> None:
        """Count what a call on a held-out batch has left in its arguments."""

    @torch.no_grad()
    def draw(self, batch: Sample, attention_kwargs: dict[str, Any] | None = None, first: int = 0) -> Tensor:
        """Pictures (B, 3, H, W) of the batch's captions, with guidance.

        The noise is always the same; `first` is the place of the batch's first picture among all that are drawn.
        """
        device, count = self.device(), len(batch["caption"])
        side = self.latent_size
        noise = seeded_normal((first + count, self.unet.config["in_channels"], side, side), 0, device)[first:]
        latents = sample_latents(
            self.unet,
            self.scheduler,
            *self.text(batch),
            self.sizes(batch),
            noise,
            guidance=self.folder.recipe.defaults["guidance_scale"],
            attention_kwargs=attention_kwargs,
        )
        with self.vae_precision(device):
            return decode_latents(self.vae, latents)

    @property
    def latent_size(self) -> int:
        """Side of the square latents."""
        return self.folder.recipe.resolution // 2 ** (len(self.vae.config.block_out_channels) - 1)

    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.unet.parameters()).device
