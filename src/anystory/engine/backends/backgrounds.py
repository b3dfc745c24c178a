"""Noise that pictures of one place share: what a diffusion model makes of the background follows from the noise there.

Where the subjects will be is not known before they are drawn. So a picture is begun with noise of its own, its routing
maps are read after a few steps, and it is begun again with the place's noise wherever no subject was.

Shapes: latents have c channels and h × w positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil
from typing import Any

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from torch.nn import functional as F

from anystory.pipelines.routing_record import RoutingRecord

__all__ = ["look_ahead", "shared_noise"]

_SHARE = 0.25
"""Of the steps, after which the maps are read: measured in docs/stories.md."""

StepCallback = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]


def look_ahead(steps: int) -> int:
    """How many steps are drawn before a picture with subjects is begun again."""
    return ceil(steps * _SHARE)


def shared_noise(
    pipe: Any, arguments: Mapping[str, Any], seed: int, background: int, after_step: StepCallback
) -> Tensor:
    """The noise (1, c, h, w) of a picture that shares its background.

    Args:
        pipe: An AnyStoryPipeline.
        arguments: Of its call, but for seed, callback and latents.
        seed: Of the picture.
        background: Seed of the place.
        after_step: Called after each step that is drawn to find the subjects.
    """
    native = pipe.default_sample_size * pipe.vae_scale_factor
    size = [(arguments.get(side) or native) // pipe.vae_scale_factor for side in ("height", "width")]
    shape = (1, pipe.unet.config.in_channels, *size)
    own, place = (
        randn_tensor(shape, generator=torch.Generator().manual_seed(number), dtype=pipe.unet.dtype)
        for number in (seed, background)
    )
    if not arguments["subjects"]:
        return place
    steps = look_ahead(arguments["num_inference_steps"])

    def stop_in_time(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._interrupt = step + 1 >= steps  # diffusers' own way to end a call
        return after_step(pipe, step, timestep, tensors)

    result = pipe(
        **arguments,
        latents=own,
        generator=torch.Generator().manual_seed(seed),
        record_routing=[steps - 1],
        callback_on_step_end=stop_in_time,
        output_type="latent",
    )
    return torch.where(_near_subjects(result.routing, (size[0], size[1])), own, place)


def _near_subjects(routing: RoutingRecord, size: tuple[int, int]) -> Tensor:
    """(h, w) bool: where a subject is, or a neighbour's is: its outline still moves."""
    masks = torch.from_numpy(np.ascontiguousarray(routing.masks(size).any(axis=0)))
    return F.max_pool2d(masks[None].float(), 3, stride=1, padding=1)[0] > 0
