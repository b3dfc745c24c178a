"""A small guided sampler for the pictures that a stage logs, on the modules in training (no pipeline, no saving)."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from anystory.pipelines.schedulers import rescheduled


@torch.no_grad()
def sample_latents(
    unet: UNet2DConditionModel,
    scheduler: Any,
    hidden: Tensor,
    pooled: Tensor,
    sizes: Tensor,
    noise: Tensor,
    *,
    guidance: float,
    steps: int = 20,
    attention_kwargs: dict[str, Any] | None = None,
) -> Tensor:
    """Denoise `noise` (B, z, h, w), unit variance, under the text condition with classifier-free guidance.

    `attention_kwargs` must expect the batch [unconditional; conditional].
    """
    sampler: Any = rescheduled(scheduler)  # with a state of its own
    sampler.set_timesteps(steps, device=noise.device)
    latents = noise * sampler.init_noise_sigma
    hidden, pooled = hidden.to(unet.dtype), pooled.to(unet.dtype)
    hidden = torch.cat([torch.zeros_like(hidden), hidden])
    added = {"text_embeds": torch.cat([torch.zeros_like(pooled), pooled]), "time_ids": torch.cat([sizes, sizes])}
    for t in sampler.timesteps:
        double = sampler.scale_model_input(torch.cat([latents, latents]), t)
        output = unet(
            double.to(unet.dtype), t, hidden, added_cond_kwargs=added, cross_attention_kwargs=attention_kwargs
        ).sample
        unconditional, conditional = output.float().chunk(2)
        guided = unconditional + guidance * (conditional - unconditional)
        latents = sampler.step(guided, t, latents).prev_sample
    return latents


def decode_latents(vae: Any, latents: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] of scaled latents: the way back from `pipelines.pixels.encode_pixels`."""
    config = vae.config
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    latents = latents / config.scaling_factor
    if mean is not None and std is not None:
        mean, std = (latents.new_tensor(values).view(1, -1, 1, 1) for values in (mean, std))
        latents = latents * std + mean
    else:
        latents = latents + (getattr(config, "shift_factor", None) or 0.0)
    return vae.decode(latents.to(vae.dtype)).sample.float()
