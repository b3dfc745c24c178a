"""Stage `vae`: the patchifying autoencoder on scenes and on references over white."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from anystory.models.patch_autoencoder import PatchAutoencoder
from anystory.training.data import storyworld
from anystory.training.data.samples import world_samples
from anystory.training.data.stream import Sample, collate
from anystory.training.model.components import ModelFolder
from anystory.training.recipe import Recipe
from anystory.training.stages.common import Share, StageOptions, read_options, sheet, to_pixels
from anystory.training.stages.stage import Stage


class ReconstructionOptions(StageOptions):
    """Weights of the loss terms beside the absolute error, and what the decoder is hardened against."""

    square_weight: float = Field(default=1.0, ge=0)
    gradient_weight: float = Field(default=1.0, ge=0)
    """Absolute error of the horizontal and vertical differences: it keeps outlines sharp."""
    latent_noise: float = Field(default=0.0, ge=0)
    """The most noise that latents get before they are decoded, in deviations of their channel; each sample's is
    uniform below it. Sampled latents are never quite right: the decoder learns to make clean pictures of them."""
    latent_noise_share: Share = 0.7
    """Share of the samples that get it."""


class AutoencoderOptions(ReconstructionOptions):
    """Settings of the whole autoencoder's loss."""

    kl_weight: float = Field(default=1e-4, ge=0)
    """Pull of the posterior to the standard normal, per latent number."""


def difference_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute error of neighbouring-pixel differences of (B, C, H, W) pictures, both directions."""
    error = a - b
    return (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2


def reconstruction_loss(output: Tensor, pixels: Tensor, options: ReconstructionOptions) -> dict[str, Tensor]:
    """Weighted L1 + squared + gradient error of (B, 3, H, W) in [-1, 1], the terms for the log beside it."""
    absolute = F.l1_loss(output, pixels)
    square = F.mse_loss(output, pixels)
    gradient = difference_error(output, pixels)
    loss = absolute + options.square_weight * square + options.gradient_weight * gradient
    return {"loss": loss, "l1": absolute.detach(), "psnr": 10 * torch.log10(4 / square.detach())}


def noised(latents: Tensor, options: ReconstructionOptions, generator: torch.Generator) -> Tensor:
    """Latents (B, z, h, w) with noise of up to `latent_noise` deviations of each channel in this batch."""
    if not options.latent_noise:
        return latents
    shape, device = (len(latents), 1, 1, 1), latents.device
    strength = torch.rand(shape, generator=generator, device=device) * options.latent_noise
    chosen = torch.rand(shape, generator=generator, device=device) < options.latent_noise_share
    noise = torch.randn(latents.shape, generator=generator, device=device)
    deviation = latents.detach().std(dim=(0, 2, 3), keepdim=True)
    return latents + noise * deviation * strength * chosen


def training_pictures(recipe: Recipe) -> Callable[[int], Sample]:
    """What an autoencoder learns on: a picklable function from a stream position to a sample with `image`."""
    return world_samples(recipe, storyworld.picture_sample)


def held_out_pictures(recipe: Recipe, count: int, device: torch.device) -> Tensor:
    """Pixels (count, 3, H, W) in [-1, 1] that training does not see."""
    fetch = training_pictures(recipe)
    return to_pixels(collate([fetch(2**40 + i) for i in range(count)])["image"]).to(device)


@torch.no_grad()
def reconstructions(vae: PatchAutoencoder, recipe: Recipe) -> Image.Image:
    """Held-out pictures above what the autoencoder makes of them."""
    pixels = held_out_pictures(recipe, 12, vae.latent_mean.device)
    decoded: Any = vae.decode(vae.encode(pixels).latent_dist.mode())  # pyright: ignore[reportAttributeAccessIssue]
    return sheet([list(pixels), list(decoded.sample)])


class AutoencoderStage(Stage):
    """L1 + squared + gradient error + KL."""

    name = "vae"
    options_type = AutoencoderOptions

    def __init__(self, folder: ModelFolder) -> None:
        super().__init__()
        recipe = folder.recipe
        self.options = read_options(AutoencoderOptions, recipe.stages["vae"].options, "vae")
        self.folder = folder
        self.vae: PatchAutoencoder = folder.load_or_build("vae")
        self.muon_edges = self.vae.edges
        # Training sees raw latents; export normalises them again. A resumed run is then the same as an unbroken one.
        self.vae.reset_normalisation()

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.vae.named_parameters())

    def fetch(self) -> Callable[[int], Sample]:
        return training_pictures(self.folder.recipe)

    def forward(self, batch: Sample, generator: torch.Generator) -> dict[str, Tensor]:
        pixels = to_pixels(batch["image"])
        posterior: Any = self.vae.encode(pixels, return_dict=False)[0]  # pyright: ignore[reportIndexIssue]
        latents = noised(posterior.sample(generator), self.options, generator)
        output: Tensor = self.vae.decode(latents, return_dict=False)[0]  # pyright: ignore
        losses = reconstruction_loss(output.float(), pixels, self.options)
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return {**losses, "loss": losses["loss"] + self.options.kl_weight * kl, "kl": kl.detach()}

    def sample_picture(self) -> Image.Image:
        return reconstructions(self.vae, self.folder.recipe)

    @torch.no_grad()
    def before_export(self) -> None:
        # The buffers make latents unit variance per channel, so the diffusion model needs no scaling factor.
        pixels = held_out_pictures(self.folder.recipe, 256, self.vae.latent_mean.device)
        posterior: Any = self.vae.encode(pixels, return_dict=False)[0]  # pyright: ignore[reportIndexIssue]
        self.vae.normalise_latents(posterior.mode())

    def export(self, folder: Path) -> None:
        self.folder.save("vae", self.vae)
