"""Text to image with subjects, with and without a ControlNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from diffusers import StableDiffusionXLControlNetPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
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
from anystory.pipelines.checks.pictures import PictureKind
from anystory.pipelines.inputs import given_picture_size
from anystory.pipelines.sdxl.components import Autoencoder, ControlNets
from anystory.pipelines.unet.mixin import AnyStoryMixin

__all__ = ["AnyStoryControlNetPipeline", "AnyStoryPipeline"]


class AnyStoryPipeline(AnyStoryMixin, StableDiffusionXLPipeline):
    """Text to image with subjects, on SDXL or any model of its layout.

        pipe = AnyStoryPipeline.from_pretrained("mini")
        out = pipe("a fox and a robot on a beach", subjects=[Subject("fox.png"), Subject("robot.png")])
        out.images[0]; out.routing.masks()

    Its components are those of `StableDiffusionXLPipeline` (`text_encoder` and `tokenizer` may be None, as in
    the SDXL refiner; `vae` may be a `PatchAutoencoder`), with `adapter` and `default_call` besides; see
    `AnyStoryMixin` for these and for the call.
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
        force_zeros_for_empty_prompt: bool = True,
        add_watermarker: bool | None = None,
        adapter: SubjectAdapter | None = None,
        default_call: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            vae, text_encoder, text_encoder_2, tokenizer, tokenizer_2, unet, scheduler, image_encoder,
            feature_extractor, force_zeros_for_empty_prompt, add_watermarker,
            adapter=adapter, default_call=default_call,
        )  # fmt: skip

    @with_arguments_of(StableDiffusionXLPipeline.__call__, AnyStoryMixin.__call__)
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


class AnyStoryControlNetPipeline(AnyStoryMixin, StableDiffusionXLControlNetPipeline):
    """Text to image with subjects, guided by a ControlNet's picture: a pose, a depth map, edges.

        pipe = AnyStoryControlNetPipeline.from_pipe(text_to_image, controlnet=controlnet)
        out = pipe("a fox and a robot", image=pose, subjects=[Subject("fox.png"), Subject("robot.png")])

    The result has the size of `image`, unless `height` or `width` says otherwise.
    """

    _picture_kinds: ClassVar[dict[str, PictureKind]] = {"image": "map", "ip_adapter_image": "scene"}

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
        force_zeros_for_empty_prompt: bool = True,
        add_watermarker: bool | None = None,
        feature_extractor: CLIPImageProcessor | None = None,
        image_encoder: CLIPVisionModelWithProjection | None = None,
        adapter: SubjectAdapter | None = None,
        default_call: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            vae, text_encoder, text_encoder_2, tokenizer, tokenizer_2, unet, controlnet, scheduler,
            force_zeros_for_empty_prompt, add_watermarker, feature_extractor, image_encoder,
            adapter=adapter, default_call=default_call,
        )  # fmt: skip

    @with_arguments_of(StableDiffusionXLControlNetPipeline.__call__, AnyStoryMixin.__call__)
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)

    def _picture_size(self, values: Mapping[str, Any]) -> tuple[int, int]:
        return given_picture_size("image", values["image"], self.control_image_processor, values)
