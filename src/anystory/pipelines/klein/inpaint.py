"""AnyStoryFlux2KleinInpaintPipeline: subjects into a part of an existing picture, on FLUX.2 klein."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinInpaintPipeline,
    Flux2Transformer2DModel,
)
from torch import Tensor
from transformers import Qwen2TokenizerFast, Qwen3ForCausalLM

from anystory.pipelines.arguments import with_arguments_of
from anystory.pipelines.klein.mixin import REFERENCE_SIZE, AnyStoryKleinMixin

__all__ = ["AnyStoryFlux2KleinInpaintPipeline"]

_MOST_PIXELS = 1024 * 1024
"""What diffusers shrinks a picture to."""


class AnyStoryFlux2KleinInpaintPipeline(AnyStoryKleinMixin, Flux2KleinInpaintPipeline):
    """Inpainting: subjects into the white part of a mask over an existing picture.

        pipe = AnyStoryFlux2KleinInpaintPipeline.from_pipe(text_to_image)
        out = pipe("a fox on a beach", image=picture, mask_image=mask, strength=1.0, subjects=[Subject("fox.png")])

    The model reads the existing picture as a reference of its own, which every pixel sees. The result has its size.
    """

    def __init__(
        self,
        scheduler: FlowMatchEulerDiscreteScheduler,
        vae: AutoencoderKLFlux2,
        text_encoder: Qwen3ForCausalLM,
        tokenizer: Qwen2TokenizerFast,
        transformer: Flux2Transformer2DModel,
        is_distilled: bool = False,
        reference_size: int = REFERENCE_SIZE,
        default_call: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            scheduler, vae, text_encoder, tokenizer, transformer, is_distilled,
            reference_size=reference_size, default_call=default_call,
        )  # fmt: skip

    @with_arguments_of(Flux2KleinInpaintPipeline.__call__, AnyStoryKleinMixin._call)
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def _picture_size(self, values: Mapping[str, Any]) -> tuple[int, int]:
        """As diffusers does: that of the picture, shrunk to a megapixel, whole tokens of it."""
        image = values["image"]
        if image is None:
            raise ValueError("`image` must be a picture, got None")
        if isinstance(image, Tensor) and image.ndim == 4 and image.shape[1] == self.transformer.config.in_channels:
            return image.shape[2] * self.size_multiple, image.shape[3] * self.size_multiple
        height, width = self._get_raw_image_size(image)
        if height * width > _MOST_PIXELS:
            scale = math.sqrt(_MOST_PIXELS / (height * width))
            height, width = int(height * scale), int(width * scale)
        return tuple(side // self.size_multiple * self.size_multiple for side in (height, width))  # type: ignore[return-value]
