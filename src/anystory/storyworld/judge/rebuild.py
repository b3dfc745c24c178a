"""Pictures through an autoencoder and back: the softness that every generated picture has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from anystory.precision import native_bf16

Rebuild = Callable[[Tensor, torch.Generator], Tensor]
"""Pictures (B, 3, H, W) in [-1, 1] to what an autoencoder makes of them."""


def through_autoencoder(vae: Any, latent_noise: float = 0.0) -> Rebuild:
    """Rebuild pictures with a diffusers autoencoder (`encode`, `decode`), in bfloat16 where the processor has it.

    Args:
        latent_noise: each picture's latent gets noise of a standard deviation drawn from 0 to this, in units of the
            latent (about standardised in the embedded model).
    """

    @torch.no_grad()
    def rebuild(images: Tensor, generator: torch.Generator) -> Tensor:
        with native_bf16(torch.device("cpu")):
            latent = vae.encode(images.contiguous(memory_format=torch.channels_last)).latent_dist.mode().float()
            strength = latent_noise * torch.rand(len(latent), 1, 1, 1, generator=generator)
            latent = latent + strength * torch.randn(latent.shape, generator=generator)
            return vae.decode(latent).sample.float().clamp(-1, 1)

    return rebuild
