"""Pixels to latents and back, for any autoencoder that diffusers has.

Shapes: U pictures of H × W pixels; latents have c channels and h × w positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["decode_latents", "encode_pixels", "normalised"]


def normalised(pixels: np.ndarray) -> Tensor:
    """uint8 (U, H, W, 3) to float (U, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def encode_pixels(
    vae: Any, pixels: Tensor, *, sample: bool = False, generator: torch.Generator | None = None
) -> Tensor:
    """Pixels (U, 3, H, W) in [-1, 1] to the latents (U, c, h, w) that the denoiser works on.

    The mode of the posterior, so that a reference always gives the same latents (an `AutoencoderTiny` has no other);
    normalised by the inverse of what diffusers' pipelines do before they decode.

    Args:
        vae: The autoencoder.
        pixels: What to encode.
        sample: Draw from the posterior instead.
        generator: For that.
    """
    with _safe_precision(vae):
        latents = _latents(vae.encode(pixels.to(vae.dtype)), sample, generator)
    shift, scale = _shift_and_scale(vae.config, latents)
    return (latents - shift) * scale


def decode_latents(vae: Any, latents: Tensor) -> Tensor:
    """Latents (U, c, h, w) as `encode_pixels` gives them to pixels (U, 3, H, W) in [-1, 1]."""
    with _safe_precision(vae):
        shift, scale = _shift_and_scale(vae.config, latents)
        return vae.decode((latents / scale + shift).to(vae.dtype)).sample.float().clamp(-1, 1)


def _shift_and_scale(config: Any, latents: Tensor) -> tuple[Any, Any]:
    """What diffusers' pipelines undo before they decode."""
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is not None and std is not None:
        mean, std = (latents.new_tensor(values).view(1, -1, 1, 1) for values in (mean, std))
        return mean, config.scaling_factor / std
    return getattr(config, "shift_factor", None) or 0.0, config.scaling_factor


def _latents(encoded: Any, sample: bool, generator: torch.Generator | None) -> Tensor:
    if not hasattr(encoded, "latent_dist"):
        return encoded.latents
    return encoded.latent_dist.sample(generator) if sample else encoded.latent_dist.mode()


@contextmanager
def _safe_precision(vae: Any) -> Iterator[None]:
    """SDXL's own VAE overflows in float16 (`force_upcast`): run it in float32, then put it back."""
    upcast = vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False)
    if upcast:
        nn.Module.to(vae, torch.float32)  # ModelMixin's own `to` warns at every change of type
    try:
        yield
    finally:
        if upcast:
            nn.Module.to(vae, torch.float16)
