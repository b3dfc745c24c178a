"""AnyStory's nodes for ComfyUI: thin faces on `anystory.engine`, `anystory.cast` and `anystory.segment`.

A model loads when a workflow first needs it; importing the nodes imports no heavy library but torch, which ComfyUI has.
"""

from __future__ import annotations

from typing import Any

from .characters import AnyStoryCharacter
from .keeping import AnyStorySave
from .loading import AnyStoryModel
from .regions import AnyStoryRegion
from .routing import AnyStoryRoutingMask, AnyStoryRoutingSheet
from .samplers import AnyStorySampler, AnyStorySamplerFlux, AnyStorySamplerKlein
from .segmenting import AnyStorySegment
from .subjects import AnyStorySubject

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]

NODE_CLASS_MAPPINGS: dict[str, Any] = {
    node.__name__: node
    for node in (
        AnyStoryModel,
        AnyStorySubject,
        AnyStoryCharacter,
        AnyStoryRegion,
        AnyStorySampler,
        AnyStorySamplerFlux,
        AnyStorySamplerKlein,
        AnyStoryRoutingMask,
        AnyStoryRoutingSheet,
        AnyStorySegment,
        AnyStorySave,
    )
}
"""{name in workflows: class}. Workflows hold these names: they never change."""

NODE_DISPLAY_NAME_MAPPINGS = {
    "AnyStoryModel": "AnyStory Model",
    "AnyStorySubject": "AnyStory Subject",
    "AnyStoryCharacter": "AnyStory Character (Library)",
    "AnyStoryRegion": "AnyStory Region (Box)",
    "AnyStorySampler": "AnyStory Sampler (SDXL)",
    "AnyStorySamplerFlux": "AnyStory Sampler (FLUX.1)",
    "AnyStorySamplerKlein": "AnyStory Sampler (FLUX.2 klein)",
    "AnyStoryRoutingMask": "AnyStory Routing Mask",
    "AnyStoryRoutingSheet": "AnyStory Routing Sheet",
    "AnyStorySegment": "AnyStory Segment",
    "AnyStorySave": "AnyStory Save with Record",
}
