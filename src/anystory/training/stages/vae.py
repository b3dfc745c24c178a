"""Stage `vae`: the patchifying autoencoder on scenes and on references over white."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from .. import data
from ..components import ModelFolder
from ..stage import Stage
from ..stream import Sample, collate
from .common import Options, read_options, sheet, to_pixels


class AutoencoderOptions(Options):
    """Weights of the loss terms beside the absolute error."""

    kl_weight: float = Field(default=1e-4, ge=0)
    """Pull of the posterior to the standard normal, per latent number."""
    square_weight: float = Field(default=1.0, ge=0)
    gradient_weight: float = Field(default=1.0, ge=0)
    """Absolute error of the horizontal and vertical differences: it keeps outlines sharp."""


def difference_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute error of neighbouring-pixel differences of (B, C, H, W) pictures, both directions."""
    error = a - b
    return (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2


class AutoencoderStage(Stage):
    """L1 + squared + gradient error + KL."""

    name = "vae"
    options_type = AutoencoderOptions

    def __init__(self, folder: ModelFolder) -> None:
        super().__init__()
        recipe = folder.recipe
        self.options = read_options(AutoencoderOptions, recipe.stages["vae"].options, "vae")
        self.folder = folder
        self.vae = folder.load_or_build("vae")
        # Training sees raw latents; export normalises them again. A resumed run is then the same as an unbroken one.
        self.vae.reset_normalisation()

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.vae.named_parameters())

    def fetch(self) -> Callable[[int], Sample]:
        recipe = self.folder.recipe
        assert recipe.level is not None  # a recipe with this stage has one
        return partial(data.picture_sample, level=recipe.level, size=recipe.resolution, seed=recipe.seed)

    def forward(self, batch: Sample, generator: torch.Generator) -> dict[str, Tensor]:
        pixels = to_pixels(batch["image"])
        output, posterior = self.vae(pixels, generator)
        absolute = F.l1_loss(output, pixels)
        square = F.mse_loss(output, pixels)
        gradient = difference_error(output, pixels)
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        o = self.options
        loss = absolute + o.square_weight * square + o.gradient_weight * gradient + o.kl_weight * kl
        psnr = 10 * torch.log10(4 / square.detach())
        return {"loss": loss, "l1": absolute.detach(), "psnr": psnr, "kl": kl.detach()}

    def _held_out(self, count: int) -> Tensor:
        fetch = self.fetch()
        batch = collate([fetch(2**40 + i) for i in range(count)])
        return to_pixels(batch["image"]).to(self.vae.latent_mean.device)

    @torch.no_grad()
    def sample_picture(self) -> Image.Image:
        pixels = self._held_out(12)
        decoded = self.vae.decode(self.vae.encode(pixels).latent_dist.mode()).sample
        return sheet([list(pixels), list(decoded)])

    @torch.no_grad()
    def before_export(self) -> None:
        # The buffers make latents unit variance per channel, so the diffusion model needs no scaling factor.
        self.vae.normalise_latents(self.vae.encode(self._held_out(256)).latent_dist.mode())

    def export(self, folder: Path) -> None:
        self.folder.save("vae", self.vae)
