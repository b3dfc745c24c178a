"""The SDXL pipelines: one short class each, all of AnyStory in the mixin and all of SDXL in diffusers."""

from __future__ import annotations

from diffusers import StableDiffusionXLPipeline

from anystory.pipelines.mixin import AnyStoryMixin

__all__ = ["AnyStoryPipeline"]


class AnyStoryPipeline(AnyStoryMixin, StableDiffusionXLPipeline):
    """Text to image with subjects, on SDXL or any model of its layout.

        pipe = AnyStoryPipeline.from_pretrained("mini")
        out = pipe("a fox and a robot on a beach", subjects=[Subject("fox.png"), Subject("robot.png")])
        out.images[0]; out.routing.masks()

    Its components are those of `StableDiffusionXLPipeline` (`text_encoder` and `tokenizer` may be None, as in
    the SDXL refiner; `vae` may be a `PatchAutoencoder`), with `adapter` and `default_call` besides; see
    `AnyStoryMixin` for these and for the call.
    """
