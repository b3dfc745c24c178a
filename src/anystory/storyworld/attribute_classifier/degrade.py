"""What generating does to a picture: an autoencoder on the way, softness, noise, other colours, rough masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from anystory.precision import native_bf16

Rebuild = Callable[[Tensor, torch.Generator], Tensor]
"""Pictures (B, 3, H, W) in [-1, 1] to what an autoencoder makes of them."""


def degrade_pictures(images: Tensor, generator: torch.Generator) -> Tensor:
    """Blur, tint and add noise to pictures (B, 3, H, W) in [-1, 1], each by a strength of its own.

    Mild: a colour's name must survive, since colours are attributes.
    """
    count = len(images)

    def draw(*shape: int) -> Tensor:
        return torch.rand(count, *shape, 1, 1, generator=generator)

    kernel = torch.tensor([1.0, 2.0, 1.0])
    kernel = (kernel[:, None] * kernel / 16).expand(3, 1, 3, 3)
    soft = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    images = torch.lerp(images, soft, (draw(1) * 1.4 - 0.6).clamp(0.0, 0.8))
    contrast, shift = 1 + (draw(1) - 0.5) * 0.12, (draw(3) - 0.5) * 0.1
    noise = torch.randn(images.shape, generator=generator) * (draw(1) * 0.12 - 0.06).clamp_min(0)
    return (images * contrast + shift + noise).clamp(-1, 1)


def degrade_masks(masks: Tensor, generator: torch.Generator) -> Tensor:
    """Redraw the outlines of about half of the masks (B, H, W) bool as a segmenter might: wobbly, too thin or fat."""
    count, height, width = masks.shape
    solid = masks[:, None].float()
    near = F.max_pool2d(solid, 3, stride=1, padding=1)
    soft = F.avg_pool2d(solid, 5, stride=1, padding=2, count_include_pad=False)
    wobble = F.interpolate(
        torch.randn(count, 1, height // 8, width // 8, generator=generator), size=(height, width), mode="bilinear"
    )
    strength, level = (torch.rand(2, count, 1, 1, 1, generator=generator) * torch.tensor(0.3)).unbind(0)
    rough = ((soft + wobble * strength * 0.7) > 0.35 + level) & (near > 0)
    changed = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
    result = torch.where(changed, rough, solid > 0)[:, 0]
    # Whoever is so small that nothing is left keeps the true mask.
    return torch.where(result.flatten(1).any(dim=1)[:, None, None], result, masks)


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
