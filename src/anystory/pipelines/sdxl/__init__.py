"""The SDXL pipelines: one short class each, all of AnyStory in the mixin and all of SDXL in diffusers.

They differ in what diffusers starts from (noise, a picture, a picture and a mask, each with or without a ControlNet)
and therefore in where the picture's size comes from. `docs/pipelines.md` shows each of them.
"""

from anystory.pipelines.loading.registry import register
from anystory.pipelines.sdxl.image_to_image import AnyStoryControlNetImg2ImgPipeline, AnyStoryImg2ImgPipeline
from anystory.pipelines.sdxl.inpaint import AnyStoryControlNetInpaintPipeline, AnyStoryInpaintPipeline
from anystory.pipelines.sdxl.text_to_image import AnyStoryControlNetPipeline, AnyStoryPipeline

__all__ = [
    "AnyStoryControlNetImg2ImgPipeline",
    "AnyStoryControlNetInpaintPipeline",
    "AnyStoryControlNetPipeline",
    "AnyStoryImg2ImgPipeline",
    "AnyStoryInpaintPipeline",
    "AnyStoryPipeline",
]

register(
    (
        AnyStoryPipeline,
        AnyStoryImg2ImgPipeline,
        AnyStoryInpaintPipeline,
        AnyStoryControlNetPipeline,
        AnyStoryControlNetImg2ImgPipeline,
        AnyStoryControlNetInpaintPipeline,
    ),
    {
        "AUTO_TEXT2IMAGE_PIPELINES_MAPPING": {
            "anystory": AnyStoryPipeline,
            "anystory-controlnet": AnyStoryControlNetPipeline,
        },
        "AUTO_IMAGE2IMAGE_PIPELINES_MAPPING": {
            "anystory": AnyStoryImg2ImgPipeline,
            "anystory-controlnet": AnyStoryControlNetImg2ImgPipeline,
        },
        "AUTO_INPAINT_PIPELINES_MAPPING": {
            "anystory": AnyStoryInpaintPipeline,
            "anystory-controlnet": AnyStoryControlNetInpaintPipeline,
        },
    },
)
