"""FLUX.1 with subjects."""

from anystory.models.flux.reference_keys import ReferenceKeys
from anystory.pipelines.flux.encoding import FluxSubjectEncoding
from anystory.pipelines.flux.text_to_image import AnyStoryFluxPipeline

__all__ = ["AnyStoryFluxPipeline", "FluxSubjectEncoding", "ReferenceKeys"]
