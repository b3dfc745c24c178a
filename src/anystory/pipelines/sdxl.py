"""The SDXL pipelines: one short class each, all of AnyStory in the mixin and all of SDXL in diffusers."""

from __future__ import annotations

from typing import Any, ClassVar

from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers
from transformers import (
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

from anystory.models.adapter import SubjectAdapter
from anystory.models.patch_autoencoder import PatchAutoencoder
from anystory.pipelines.mixin import AnyStoryMixin

__all__ = ["AnyStoryPipeline"]


class AnyStoryPipeline(AnyStoryMixin, StableDiffusionXLPipeline):
    """Text to image with subjects, on SDXL or any model of its layout.

        pipe = AnyStoryPipeline.from_pretrained("mini")
        out = pipe("a fox and a robot on a beach", subjects=[Subject("fox.png"), Subject("robot.png")])
        out.images[0]; out.routing.masks()

    Args:
        vae, …, add_watermarker: As in `StableDiffusionXLPipeline`. `text_encoder` and `tokenizer` may be None,
            as in the SDXL refiner.
        adapter: The trained parts of AnyStory; without it the pipeline is the stock one, without subjects.
        default_call: The model's own values for arguments of the call, `{"num_inference_steps": 25}`.
    """

    _optional_components: ClassVar[list[str]] = [*StableDiffusionXLPipeline._optional_components, "adapter"]

    def __init__(
        self,
        vae: AutoencoderKL | PatchAutoencoder,
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
        default_call: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            vae,  # type: ignore[arg-type]
            text_encoder,  # type: ignore[arg-type]
            text_encoder_2,
            tokenizer,  # type: ignore[arg-type]
            tokenizer_2,
            unet,
            scheduler,
            image_encoder=image_encoder,  # type: ignore[arg-type]
            feature_extractor=feature_extractor,  # type: ignore[arg-type]
            force_zeros_for_empty_prompt=force_zeros_for_empty_prompt,
            add_watermarker=add_watermarker,
        )
        self._register_anystory(adapter, default_call)
