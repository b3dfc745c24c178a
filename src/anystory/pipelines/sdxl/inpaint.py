"""Inpainting with subjects, with and without a ControlNet, on latents of any width (diffusers: four channels only)."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from diffusers import (
    DiffusionPipeline,
    StableDiffusionXLControlNetInpaintPipeline,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
)
from diffusers.configuration_utils import FrozenDict
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

__all__ = ["AnyStoryControlNetInpaintPipeline", "AnyStoryInpaintPipeline"]


_PLAIN_CHANNELS = 4
"""Input channels by which diffusers knows a plain U-Net, for which it keeps the unmasked part by blending."""


class BlendingMixin(DiffusionPipeline):
    """Inpainting on latents with any number of channels. Put it before `AnyStoryMixin`.

    diffusers knows plain U-Nets and those that see mask and picture by their input channels, 4 or 9, and refuses all
    others. The embedded model is a plain U-Net on 8 channels.
    """

    vae: Any
    _plain_unet: Any

    @property
    def _parent_call(self) -> Any:
        call = super()._parent_call  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]

        @functools.wraps(call)
        def blended(**arguments: Any) -> Any:
            with _shown_as_plain(self._plain_unet, self.vae):
                return call(**arguments)

        return blended


class AnyStoryInpaintPipeline(BlendingMixin, AnyStoryMixin, StableDiffusionXLInpaintPipeline):
    """Inpainting: subjects into the white part of a mask over an existing picture.

        pipe = AnyStoryInpaintPipeline.from_pipe(text_to_image)
        out = pipe("a fox on a beach", image=picture, mask_image=mask, strength=1.0, subjects=[Subject("fox.png")],
                   height=picture.height, width=picture.width)

    Size and mask are diffusers': without `height` and `width` the picture is stretched to the model's own size, and
    with `padding_mask_crop` it is a cut-out around the mask that is drawn, which `region` then refers to. Besides plain
    U-Nets it takes those made for inpainting (9 input channels), with the adapter of the plain one.
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

    @with_arguments_of(StableDiffusionXLInpaintPipeline.__call__, AnyStoryMixin.__call__)
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)

    def _picture_size(self, values: Mapping[str, Any]) -> tuple[int, int]:
        return values.get("height") or self.native_size, values.get("width") or self.native_size


class AnyStoryControlNetInpaintPipeline(BlendingMixin, AnyStoryMixin, StableDiffusionXLControlNetInpaintPipeline):
    """Inpainting with subjects and a ControlNet: the white part of `mask_image` is drawn, `control_image` guides.

    The result has the size of `image`, unless `height` or `width` says otherwise.
    """

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

    @with_arguments_of(StableDiffusionXLControlNetInpaintPipeline.__call__, AnyStoryMixin.__call__)
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)

    def _picture_size(self, values: Mapping[str, Any]) -> tuple[int, int]:
        return given_picture_size("image", values["image"], self.image_processor, values)


@contextmanager
def _shown_as_plain(unet: Any, vae: Any) -> Iterator[None]:
    """While open, a plain U-Net's configuration says 4 input channels, which nothing but diffusers' check reads."""
    config = unet.config
    if config.in_channels != vae.config.latent_channels:  # not a plain U-Net
        yield
        return
    # Attributes, not entries: diffusers sets what an IP-Adapter changes as an attribute of the configuration only.
    found = {name: getattr(config, name, value) for name, value in config.items()}
    unet._internal_dict = FrozenDict(found | {"in_channels": _PLAIN_CHANNELS})
    try:
        yield
    finally:
        unet._internal_dict = config
