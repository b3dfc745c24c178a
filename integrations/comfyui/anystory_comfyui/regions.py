"""The node that makes a region of a box."""

from __future__ import annotations

from typing import Any

from anystory.subjects.regions import region_mask

from .sentences import in_a_sentence
from .tensors import mask_batch
from .wires import CATEGORY

__all__ = ["AnyStoryRegion"]


class AnyStoryRegion:
    """A box as a MASK, for a subject's region; any other mask serves as well."""

    DESCRIPTION = "A box as a mask, in fractions of the picture from its top left corner: where a subject goes."
    CATEGORY = CATEGORY
    FUNCTION = "paint"
    RETURN_TYPES = ("MASK",)
    RETURN_NAMES = ("region",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """ComfyUI's description of the inputs."""

        def share(default: float) -> tuple[str, dict[str, Any]]:
            return ("FLOAT", {"default": default, "min": 0.0, "max": 1.0, "step": 0.01})

        side = ("INT", {"default": 512, "min": 8, "max": 8192, "tooltip": "Pixels of the mask; it is stretched to fit"})
        return {
            "required": {
                "left": share(0.0),
                "top": share(0.0),
                "right": share(0.5),
                "bottom": share(1.0),
                "width": side,
                "height": side,
            }
        }

    @in_a_sentence
    def paint(self, left: float, top: float, right: float, bottom: float, width: int, height: int) -> tuple[Any]:
        """The box, white on black."""
        return (mask_batch(region_mask((left, top, right, bottom), height, width)[None]),)
