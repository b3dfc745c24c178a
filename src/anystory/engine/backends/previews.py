"""Small pictures of what a diffusion model has so far.

A large autoencoder's latents become colours by a linear map, one pixel for each latent position. Nearly all of its
colour is linear in its latents; what is lost is detail below a latent's pixels. The map is fitted, by least squares, to
a chart that the model's own autoencoder encodes. A preview costs one small matrix product. Small autoencoders (the
mini's, `AutoencoderTiny`) decode the latents themselves: that costs less than a sampling step, and the mini's colours
are not linear in its latents.

In the middle of the sampling latents are mostly noise. For Euler's sampler, SDXL's or FLUX's, the clean latents
follow from two steps: it goes along a line from the noisy to the clean picture, so they are where that line meets noise
level 0. Other samplers' latents are shown as they are, at the strength of clean ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from diffusers import (
    AutoencoderTiny,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from anystory.models.patch_autoencoder import PatchAutoencoder
from anystory.pipelines.pixels import decode_latents, encode_pixels

__all__ = ["ColourMap", "LatentColours", "Previews", "SmallDecoder", "latent_colours"]

_CHART = 128
"""Side of the chart, in pixels."""
_CELLS = (4, 16)
"""The chart is a sum of random colours, in 4 × 4 large cells and in 16 × 16 small ones."""
_CONTRAST = 2.0
"""Its colours are cut off at black and white after they are multiplied by this: it has much of both."""


class ColourMap:
    """Latents to colours.

    Args:
        weight: (c + 1, 3); the last row is for a channel of ones.
        spread: Standard deviation of clean latents.
    """

    def __init__(self, weight: Tensor, spread: float) -> None:
        self.weight = weight
        self.spread = spread

    @classmethod
    @torch.no_grad()
    def fitted(
        cls, vae: Any, device: torch.device, encode: Callable[[Any, Tensor], Tensor] = encode_pixels
    ) -> ColourMap:
        """Fit a map to what an autoencoder makes of a chart of colours.

        Args:
            vae: As diffusers' pipelines have it.
            device: Where it runs.
            encode: Gives its latents (1, c, h, w) of pixels (1, 3, H, W) in [-1, 1], as the map will be given some.
        """
        draws = torch.Generator().manual_seed(0)
        chart = sum(
            F.interpolate(torch.rand(1, 3, cells, cells, generator=draws) * 2 - 1, _CHART, mode="bilinear")
            for cells in _CELLS
        )
        chart = (torch.as_tensor(chart) * _CONTRAST).clamp(-1, 1)
        latents = encode(vae, chart.to(device)).float().cpu()
        colours = F.interpolate(chart, latents.shape[-2:], mode="area")
        weight = torch.linalg.lstsq(_rows(latents), colours[0].flatten(1).T).solution
        return cls(weight, latents.std().item())

    def __call__(self, latents: Tensor) -> Image.Image:
        """The picture (w × h pixels) of latents (c, h, w), noisy ones brought to the strength of clean ones."""
        latents = latents.float().cpu()
        latents = latents * min(1.0, self.spread / max(latents.std().item(), 1e-6))
        pixels = (_rows(latents[None]) @ self.weight).reshape(*latents.shape[1:], 3)
        return _picture(pixels)


class SmallDecoder:
    """Latents to a picture by a decoder that costs little.

    Args:
        vae: As diffusers' pipelines have it.
    """

    def __init__(self, vae: Any) -> None:
        self._vae = vae

    @torch.no_grad()
    def __call__(self, latents: Tensor) -> Image.Image:
        """The picture of latents (c, h, w), at its full size; noisy ones are brought to the strength of clean ones."""
        latents = latents.float().nan_to_num()  # where they are: an offloaded decoder fetches them
        latents = latents / max(latents.std().item(), 1.0)
        pixels = decode_latents(self._vae, latents[None])
        return _picture(pixels[0].permute(1, 2, 0).cpu())


LatentColours: TypeAlias = ColourMap | SmallDecoder
"""Makes a picture of latents (c, h, w)."""


def latent_colours(vae: Any, device: torch.device) -> LatentColours:
    """What makes previews for an autoencoder: its own decoder if it is small, else a fitted map."""
    return SmallDecoder(vae) if isinstance(vae, (PatchAutoencoder, AutoencoderTiny)) else ColourMap.fitted(vae, device)


class Previews:
    """Previews of one call: it remembers the latents of the step before.

    Args:
        colours: Gives what makes a picture of latents; it is asked for when the first preview is.
    """

    def __init__(self, colours: Callable[[], LatentColours]) -> None:
        self._colours = colours
        self._before: Tensor | None = None

    def clean(self, latents: Tensor, scheduler: Any) -> Tensor:
        """Remember the latents (c, h, w) after a step, and estimate the clean ones if the sampler allows it."""
        before, self._before = self._before, latents
        index = getattr(scheduler, "step_index", None)
        if before is None or not index or not _goes_straight(scheduler):
            return latents
        sigma, smaller = (float(scheduler.sigmas[i]) for i in (index - 1, index))
        if type(scheduler) is UniPCMultistepScheduler:  # its latents are Euler's, scaled to unit variance
            before, latents = before * (1 + sigma**2) ** 0.5, latents * (1 + smaller**2) ** 0.5
        return before + (latents - before) * sigma / (sigma - smaller)

    def picture(self, clean: Tensor) -> Image.Image:
        """A small picture of what `clean` returned."""
        return self._colours()(clean)


def _goes_straight(scheduler: Any) -> bool:
    """Whether a step leads towards the clean latents that the model predicts, without new noise."""
    if type(scheduler) is FlowMatchEulerDiscreteScheduler:
        return not scheduler.config["stochastic_sampling"]
    return type(scheduler) in (EulerDiscreteScheduler, UniPCMultistepScheduler)


def _picture(pixels: Tensor) -> Image.Image:
    """(H, W, 3) in [-1, 1]."""
    grey = (pixels * 127.5 + 127.5).nan_to_num().clamp(0, 255).round()
    return Image.fromarray(grey.numpy().astype(np.uint8))


def _rows(latents: Tensor) -> Tensor:
    """(1, c, h, w) as one row (c + 1) for each position, with a one at its end."""
    rows = latents[0].flatten(1).T
    return torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
