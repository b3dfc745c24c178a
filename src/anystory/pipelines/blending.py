"""Inpainting on latents of any width: what diffusers does for four channels."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers import DiffusionPipeline
from diffusers.configuration_utils import FrozenDict

__all__ = ["BlendingMixin"]

_PLAIN_CHANNELS = 4
"""diffusers takes a U-Net with so many input channels for a plain one, and keeps the unmasked part by blending."""


class BlendingMixin(DiffusionPipeline):
    """For an inpainting pipeline: put it before `AnyStoryMixin`.

    diffusers tells plain U-Nets from those that see mask and picture by their input channels, 4 or 9, and refuses all
    others. The embedded model is a plain U-Net on 8 channels.
    """

    vae: Any
    _plain_unet: Any

    @property
    def _parent_call(self) -> Any:
        call = super()._parent_call  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]

        @functools.wraps(call)
        def blended(**arguments: Any) -> Any:
            with _told_as_plain(self._plain_unet, self.vae):
                return call(**arguments)

        return blended


@contextmanager
def _told_as_plain(unet: Any, vae: Any) -> Iterator[None]:
    """While open, the configuration of a plain U-Net says 4 input channels; diffusers' call reads them nowhere else."""
    config = unet.config
    if config.in_channels != vae.config.latent_channels:  # not a plain U-Net
        yield
        return
    unet._internal_dict = FrozenDict({**config, "in_channels": _PLAIN_CHANNELS})
    try:
        yield
    finally:
        unet._internal_dict = config
