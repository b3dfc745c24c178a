"""Image to image with subjects, with and without a ControlNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import StableDiffusionXLControlNetImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline, UNet2DConditionModel
from diffusers.schedulers import KarrasDiffusionSchedulers
from transformers import (
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

from anystory.models.adapter import SubjectAdapter
from anystory.pipelines.arguments import with_arguments_of
from anystory.pipelines.inputs import given_picture_size
from anystory.pipelines.sdxl.components import Autoencoder, ControlNets
from anystory.pipelines.unet.mixin import AnyStoryMixin

__all__ = ["AnyStoryControlNetImg2ImgPipeline", "AnyStoryImg2ImgPipeline"]


class AnyStoryImg2ImgPipeline(AnyStoryMixin, StableDiffusionXLImg2ImgPipeline):
    """Image to image: a picture drawn over, with subjects.

        pipe = AnyStoryImg2ImgPipeline.from_pipe(text_to_image)          # shares all weights
        out = pipe("a fox on a beach", image=picture, strength=0.7, subjects=[Subject("fox.png")])

    The result has the size of `image`, its sides rounded down to what the VAE needs. Starts and ends of scales are
    fractions of the steps that `strength` leaves.
    """

    def __init__(
        self,
        vae: Autoencoder,
        text_encoder: CLIPTextModel | None,
        text_encoder_2: CLIPTextModelWithProjection,
        tokenizer: CLIPTokenizer | None,
        tokenizer_2: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: KarrasDiffusionSchedulers,
        image_encoder: CLIPVisionModelWithProjection | None = None,
        feature_extractor: CLIPImageProcessor | None = None,
        requires_aesthetics_score: bool = False,
        force_zeros_for_empty_prompt: bool = True,
        add_watermarker: bool | None = None,
        adapter: SubjectAdapter | None = None,
        default_call: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            vae, text_encoder, text_encoder_2, tokenizer, tokenizer_2, unet, scheduler, image_encoder,
            feature_extractor, requires_aesthetics_score, force_zeros_for_empty_prompt, add_watermarker,
            adapter=adapter, default_call=default_call,
        )  # fmt: skip

    @with_arguments_of(StableDiffusionXLImg2ImgPipeline.__call__, AnyStoryMixin.__call__)
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)

    def _picture_size(self, values: Mapping[str, Any]) -> tuple[int, int]:
        return given_picture_size("image", values["image"], self.image_processor)


class AnyStoryControlNetImg2ImgPipeline(AnyStoryMixin, StableDiffusionXLControlNetImg2ImgPipeline):
    """Image to image with subjects and a ControlNet: `image` is drawn over, `control_image` guides."""

    def __init__(
        self,
        vae: Autoencoder,
        text_encoder: CLIPTextModel | None,
        text_encoder_2: CLIPTextModelWithProjection,
        tokenizer: CLIPTokenizer | None,
        tokenizer_2: CLIPTokenizer,
        unet: UNet2DConditionModel,
        controlnet: ControlNets,
        scheduler: KarrasDiffusionSchedulers,
        requires_aesthetics_score: bool = False,
        force_zeros_for_empty_prompt: bool = True,
        add_watermarker: bool | None = None,
        feature_extractor: CLIPImageProcessor | None = None,
        image_encoder: CLIPVisionModelWithProjection | None = None,
        adapter: SubjectAdapter | None = None,
        default_call: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            vae, text_encoder, text_encoder_2, tokenizer, tokenizer_2, unet, controlnet, scheduler,
            requires_aesthetics_score, force_zeros_for_empty_prompt, add_watermarker, feature_extractor, image_encoder,
            adapter=adapter, default_call=default_call,
        )  # fmt: skip

    @with_arguments_of(StableDiffusionXLControlNetImg2ImgPipeline.__call__, AnyStoryMixin.__call__)
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)

    def _picture_size(self, values: Mapping[str, Any]) -> tuple[int, int]:
        return given_picture_size("control_image", values["control_image"], self.control_image_processor, values)
