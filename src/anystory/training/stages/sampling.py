"""A small guided sampler for the pictures that a stage logs, on the modules in training (no pipeline, no saving)."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from torch import Tensor


@torch.no_grad()
def sample_latents(
    unet: UNet2DConditionModel,
    scheduler: EulerDiscreteScheduler,
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
    scheduler = EulerDiscreteScheduler.from_config(scheduler.config)  # pyright: ignore[reportAssignmentType]
    scheduler.set_timesteps(steps, device=noise.device)
    latents = noise * scheduler.init_noise_sigma
    hidden = torch.cat([torch.zeros_like(hidden), hidden])
    added = {"text_embeds": torch.cat([torch.zeros_like(pooled), pooled]), "time_ids": torch.cat([sizes, sizes])}
    for t in scheduler.timesteps:
        double = scheduler.scale_model_input(torch.cat([latents, latents]), t)
        output = unet(double, t, hidden, added_cond_kwargs=added, cross_attention_kwargs=attention_kwargs).sample
        unconditional, conditional = output.chunk(2)
        guided = unconditional + guidance * (conditional - unconditional)
        latents = scheduler.step(guided, t, latents).prev_sample  # pyright: ignore
    return latents
