"""FLUX.2 klein with subjects."""

from anystory.models.klein.routing import AttentionRouting
from anystory.pipelines.klein.encoding import KleinSubjectEncoding
from anystory.pipelines.klein.inpaint import AnyStoryFlux2KleinInpaintPipeline
from anystory.pipelines.klein.text_to_image import AnyStoryFlux2KleinPipeline
from anystory.pipelines.loading.registry import register

__all__ = [
    "AnyStoryFlux2KleinInpaintPipeline",
    "AnyStoryFlux2KleinPipeline",
    "AttentionRouting",
    "KleinSubjectEncoding",
]

register((AnyStoryFlux2KleinPipeline, AnyStoryFlux2KleinInpaintPipeline), {})
