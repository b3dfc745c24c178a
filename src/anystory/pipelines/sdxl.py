"""The SDXL pipelines: one short class each, all of AnyStory in the mixin and all of SDXL in diffusers.

They differ in what diffusers starts from (noise, a picture, a picture and a mask, each with or without a ControlNet)
and therefore in where the picture's size comes from. `docs/pipelines.md` shows each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import (
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLControlNetInpaintPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)

from anystory.pipelines.blending import BlendingMixin
from anystory.pipelines.inputs import given_picture_size
from anystory.pipelines.mixin import AnyStoryMixin

__all__ = [
    "AnyStoryControlNetImg2ImgPipeline",
    "AnyStoryControlNetInpaintPipeline",
    "AnyStoryControlNetPipeline",
    "AnyStoryImg2ImgPipeline",
    "AnyStoryInpaintPipeline",
    "AnyStoryPipeline",
]


class AnyStoryPipeline(AnyStoryMixin, StableDiffusionXLPipeline):
    """Text to image with subjects, on SDXL or any model of its layout.

        pipe = AnyStoryPipeline.from_pretrained("mini")
        out = pipe("a fox and a robot on a beach", subjects=[Subject("fox.png"), Subject("robot.png")])
        out.images[0]; out.routing.masks()

    Its components are those of `StableDiffusionXLPipeline` (`text_encoder` and `tokenizer` may be None, as in
    the SDXL refiner; `vae` may be a `PatchAutoencoder`), with `adapter` and `default_call` besides; see
    `AnyStoryMixin` for these and for the call.
    """


class AnyStoryImg2ImgPipeline(AnyStoryMixin, StableDiffusionXLImg2ImgPipeline):
    """Image to image: a picture drawn over, with subjects.

        pipe = AnyStoryImg2ImgPipeline.from_pipe(text_to_image)          # shares all weights
        out = pipe("a fox on a beach", image=picture, strength=0.7, subjects=[Subject("fox.png")])

    The result has the size of `image`, its sides rounded down to what the VAE needs. Starts and ends of scales are
    fractions of the steps that `strength` leaves.
    """

    def _picture_size(self, values: Mapping[str, Any]) -> tuple[int, int]:
        return given_picture_size("image", values["image"], self.image_processor)


class AnyStoryInpaintPipeline(BlendingMixin, AnyStoryMixin, StableDiffusionXLInpaintPipeline):
    """Inpainting: subjects into the white part of a mask over an existing picture.

        pipe = AnyStoryInpaintPipeline.from_pipe(text_to_image)
        out = pipe("a fox on a beach", image=picture, mask_image=mask, strength=1.0, subjects=[Subject("fox.png")],
                   height=picture.height, width=picture.width)

    Size and mask are diffusers': without `height` and `width` the picture is stretched to the model's own size, and
    with `padding_mask_crop` it is a cut-out around the mask that is drawn, which `region` then refers to. Besides plain
    U-Nets it takes those made for inpainting (9 input channels), with the adapter of the plain one.
    """

    def _picture_size(self, values: Mapping[str, Any]) -> tuple[int, int]:
        native = self.unet.config.sample_size * self.vae_scale_factor
        return values.get("height") or native, values.get("width") or native


class AnyStoryControlNetPipeline(AnyStoryMixin, StableDiffusionXLControlNetPipeline):
    """Text to image with subjects, guided by a ControlNet's picture: a pose, a depth map, edges.

        pipe = AnyStoryControlNetPipeline.from_pipe(text_to_image, controlnet=controlnet)
        out = pipe("a fox and a robot", image=pose, subjects=[Subject("fox.png"), Subject("robot.png")])

    The result has the size of `image`, unless `height` or `width` says otherwise.
    """

    def _picture_size(self, values: Mapping[str, Any]) -> tuple[int, int]:
        return given_picture_size("image", values["image"], self.control_image_processor, values)


class AnyStoryControlNetImg2ImgPipeline(AnyStoryMixin, StableDiffusionXLControlNetImg2ImgPipeline):
    """Image to image with subjects and a ControlNet: `image` is drawn over, `control_image` guides."""

    def _picture_size(self, values: Mapping[str, Any]) -> tuple[int, int]:
        return given_picture_size("control_image", values["control_image"], self.control_image_processor, values)


class AnyStoryControlNetInpaintPipeline(BlendingMixin, AnyStoryMixin, StableDiffusionXLControlNetInpaintPipeline):
    """Inpainting with subjects and a ControlNet: the white part of `mask_image` is drawn, `control_image` guides.

    The result has the size of `image`, unless `height` or `width` says otherwise.
    """

    def _picture_size(self, values: Mapping[str, Any]) -> tuple[int, int]:
        return given_picture_size("image", values["image"], self.image_processor, values)
