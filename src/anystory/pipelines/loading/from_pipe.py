"""`from_pipe`: one pipeline's components in another pipeline."""

from __future__ import annotations

import inspect
from copy import copy
from typing import Any

import torch
from diffusers import DiffusionPipeline
from typing_extensions import Self

__all__ = ["ConversionMixin"]

_OF_THE_FILE = ("_class_name", "_diffusers_version")
"""Entries of a pipeline's configuration about the file it was read from."""
_STATES = ("_progress_bar_config", "fusing_unet", "fusing_vae", "_merged_adapters")
"""What diffusers keeps on a pipeline besides its configuration: the bar, and what is fused in the components."""


class ConversionMixin(DiffusionPipeline):
    """`from_pipe`: text to image, image to image, inpainting and ControlNet on the same weights in memory."""

    @classmethod
    def from_pipe(
        cls,
        pipeline: DiffusionPipeline,
        *,
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | None = None,
        **changes: Any,
    ) -> Self:
        """Make a pipeline of this class on another's components; nothing is copied or moved.

            paint = AnyStoryInpaintPipeline.from_pipe(pipe)
            posed = AnyStoryControlNetPipeline.from_pipe(pipe, controlnet=controlnet)
            ours = AnyStoryPipeline.from_pipe(stock, adapter=adapter, image_encoder=…, feature_extractor=…)

        Unlike diffusers' own method it leaves every component in its dtype unless you ask for another, and keeps the
        progress bar and watermark. Settings that this class does not use are kept for the next `from_pipe`.
        Offloading belongs to a pipeline: enable it on the one that you call.

        Args:
            pipeline: Any diffusers pipeline with the components that this one needs.
            dtype: Converts all components, which the given pipeline shares. `torch_dtype` is its old name.
            **changes: Components and settings that replace or complete the pipeline's.

        Raises:
            ValueError: a component is missing, or this class does not have an argument.
        """
        parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
        known = {parameter.name for parameter in parameters}
        if unknown := sorted(changes.keys() - known):
            raise ValueError(f"{cls.__name__} has no component or setting {', '.join(map(repr, unknown))}")
        config = {name: value for name, value in pipeline.config.items() if name not in _OF_THE_FILE}
        # As in diffusers, settings of other classes are kept under their names with an underscore.
        settings: dict[str, Any] = {name: value for name, value in config.items() if name in known}
        for name, value in config.items():
            if name.startswith("_") and name[1:] in known:
                settings.setdefault(name[1:], value)
        # Only the watermark's object tells whether it was wanted: diffusers keeps no such setting.
        settings["add_watermarker"] = getattr(pipeline, "watermark", None) is not None
        given = settings | {name: part for name, part in pipeline.components.items() if name in known} | changes
        needed = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
        if missing := [name for name in needed if name not in given]:
            names = ", ".join(f"{name}=…" for name in missing)
            raise ValueError(
                f"{type(pipeline).__name__} lacks {', '.join(missing)}: use {cls.__name__}.from_pipe(pipe, {names})"
            )
        converted = cls(**given)
        others = {
            name: value for name, value in config.items() if name.lstrip("_") not in {*known, *pipeline.components}
        }
        converted.register_to_config(**{f"_{name.lstrip('_')}": value for name, value in others.items()})
        for name, value in vars(pipeline).items():
            if name in _STATES:
                setattr(converted, name, copy(value))
        if (dtype or torch_dtype) is not None:
            converted.to(dtype=dtype or torch_dtype)
        return converted
