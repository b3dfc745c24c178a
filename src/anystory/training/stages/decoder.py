"""Stage `decoder`: the autoencoder's decoder, finished against an adversary. Latents stay as stage `vae` made them.

The errors of stage `vae` are smallest where a decoder that is unsure blurs. A discriminator that tells blurred patches
from real ones makes it choose (Esser et al. 2021, section 3.1, whose adaptive weight is used here).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from anystory.models.patch_autoencoder import PatchAutoencoder
from anystory.training.data.stream import Sample
from anystory.training.model.components import ModelFolder
from anystory.training.stages.common import Share, read_options, to_pixels
from anystory.training.stages.patch_discriminator import PatchDiscriminator
from anystory.training.stages.redrawing import Redrawing
from anystory.training.stages.stage import Stage
from anystory.training.stages.vae import (
    ReconstructionOptions,
    noised,
    reconstruction_loss,
    reconstructions,
    training_pictures,
)


class DecoderOptions(ReconstructionOptions):
    """Settings of the adversarial loss."""

    adversarial_weight: float = Field(default=0.5, ge=0, le=1)
    """Norm of the adversary's gradient at the decoder's last layer as a share of the reconstruction's. 0: none."""
    discriminator_width: int = Field(default=32, gt=0, multiple_of=4)
    redrawn: Share = 0.0
    """Learn from latents as the model's own U-Net draws them (`redrawing`), noised up to this share of the time steps
    before; needs a trained U-Net. 0: from encoded latents."""


def adversarial_scale(reconstruction: Tensor, adversary: Tensor, last: nn.Parameter) -> Tensor:
    """‖∇ reconstruction‖ / ‖∇ adversary‖ at the weight `last`, at most 10 000: by it the two pull alike."""
    one, two = (torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (reconstruction, adversary))
    return (one / two.clamp_min(1e-12)).clamp(max=1e4).detach()


class DecoderStage(Stage):
    """Reconstruction errors + a hinge loss against a PatchGAN, which learns beside the decoder and is not kept."""

    name = "decoder"
    options_type = DecoderOptions

    def __init__(self, folder: ModelFolder) -> None:
        super().__init__()
        self.options = read_options(DecoderOptions, folder.recipe.stages["decoder"].options, "decoder")
        self.folder = folder
        self.vae: PatchAutoencoder = folder.load("vae")
        self.muon_edges = (*self.vae.edges, "discriminator.")
        self.discriminator: PatchDiscriminator = folder.seeded(
            lambda: PatchDiscriminator(self.options.discriminator_width)
        )
        self.redrawing = Redrawing(folder, self.options.redrawn) if self.options.redrawn else None

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        halves = {"vae.decoder": self.vae.decoder, "vae.post_quant_conv": self.vae.post_quant_conv}
        if self.options.adversarial_weight:
            halves["discriminator"] = self.discriminator
        return {f"{half}.{name}": p for half, module in halves.items() for name, p in module.named_parameters()}

    def fetch(self) -> Callable[[int], Sample]:
        return training_pictures(self.folder.recipe)

    def forward(self, batch: Sample, generator: torch.Generator) -> dict[str, Tensor]:
        pixels = to_pixels(batch["image"])
        with torch.no_grad():
            posterior: Any = self.vae.encode(pixels, return_dict=False)[0]  # pyright: ignore[reportIndexIssue]
            latents = posterior.sample(generator)
            if self.redrawing is not None:
                latents = self.redrawing(latents, generator)
            latents = noised(latents, self.options, generator)
        output: Tensor = self.vae.decode(latents, return_dict=False)[0].float()  # pyright: ignore
        losses = reconstruction_loss(output, pixels, self.options)
        weight = self.options.adversarial_weight
        if not weight or not torch.is_grad_enabled():  # validation has no gradients to weigh by
            return losses
        # The decoder's term must not move the discriminator, nor the discriminator's the decoder.
        frozen = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        adversary = -functional_call(self.discriminator, frozen, (output,)).float().mean()
        last: Any = self.vae.decoder[-2]  # the one before the shuffle
        scale = adversarial_scale(losses["loss"], adversary, last.weight)
        real, drawn = (self.discriminator(x).float() for x in (pixels, output.detach()))
        hinge = F.relu(1 - real).mean() + F.relu(1 + drawn).mean()
        return {
            **losses,
            "loss": losses["loss"] + weight * scale * adversary + hinge,
            "adversary": adversary.detach(),
            "hinge": hinge.detach(),
            "scale": scale,
        }

    def sample_picture(self) -> Image.Image:
        return reconstructions(self.vae, self.folder.recipe)

    def export(self, folder: Path) -> None:
        self.folder.save("vae", self.vae)
