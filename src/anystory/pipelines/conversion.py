"""One pipeline's weights under another pipeline."""

from __future__ import annotations

import inspect
from typing import Any

from diffusers import DiffusionPipeline
from typing_extensions import Self

__all__ = ["ConversionMixin"]


class ConversionMixin(DiffusionPipeline):
    """`from_pipe`: text to image, image to image, inpainting and ControlNet on the same weights in memory."""

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **changes: Any) -> Self:
        """A pipeline of this class on another's components; nothing is copied, moved or converted.

            paint = AnyStoryInpaintPipeline.from_pipe(pipe)
            posed = AnyStoryControlNetPipeline.from_pipe(pipe, controlnet=controlnet)
            ours = AnyStoryPipeline.from_pipe(stock, adapter=adapter, image_encoder=…, feature_extractor=…)

        Unlike diffusers' own method it leaves every component in its dtype, and the progress bar and watermark as they
        are. Offloading belongs to a pipeline: enable it on the one that is used.

        Args:
            pipeline: Any diffusers pipeline with the components that this one needs.
            **changes: Components and settings to take instead of the pipeline's, or that it lacks.

        Raises:
            ValueError: a component is missing, or an argument is none of this class.
        """
        parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
        known = {parameter.name for parameter in parameters}
        if unknown := sorted(changes.keys() - known):
            raise ValueError(f"{cls.__name__} has no component or setting {', '.join(map(repr, unknown))}")
        settings: dict[str, Any] = {name: value for name, value in pipeline.config.items() if name in known}
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
        converted.set_progress_bar_config(**getattr(pipeline, "_progress_bar_config", {}))
        return converted
