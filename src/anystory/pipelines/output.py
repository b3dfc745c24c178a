"""What a pipeline call returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diffusers.utils import BaseOutput

from anystory.pipelines.routing_record import RoutingRecord

__all__ = ["AnyStoryOutput"]


@dataclass
class AnyStoryOutput(BaseOutput):
    """The pictures of a call, and how their pixels were shared out.

    Attributes:
        images: As in the diffusers pipeline: a list of PIL images, an array (B, H, W, 3) in [0, 1], a tensor
            (B, 3, H, W) in [0, 1] or latents (B, c, h, w), according to `output_type`.
        routing: The routing maps, or None when there were no subjects or `record_routing` was False.
    """

    images: Any
    routing: RoutingRecord | None = None

    @classmethod
    def returned(cls, images: Any, routing: RoutingRecord | None, return_dict: bool) -> Any:
        """What a call returns: this, or with `return_dict=False` the tuple (images, routing)."""
        return cls(images=images, routing=routing) if return_dict else (images, routing)
