"""The nodes that show the routing maps of pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .sentences import in_a_sentence
from .tensors import image_batch, mask_batch
from .wires import CATEGORY, PICTURES, DrawnPictures

if TYPE_CHECKING:
    from torch import Tensor

    from anystory.pipelines.routing_record import RoutingRecord

__all__ = ["AnyStoryRoutingMask", "AnyStoryRoutingSheet"]

_BACKGROUND = "background"
_KINDS = ("owner", "refined", "coarse")


class AnyStoryRoutingMask:
    """One subject's routing map; see `anystory.pipelines.routing_record.RoutingRecord`."""

    DESCRIPTION = "Where a subject is in each picture, by the router, at any step and layer."
    CATEGORY = CATEGORY
    FUNCTION = "show"
    RETURN_TYPES = ("MASK",)
    RETURN_NAMES = ("masks",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """ComfyUI's description of the inputs."""
        return {
            "required": {
                "pictures": (PICTURES,),
                "subject": ("STRING", {"default": "1", "tooltip": "A name, a number from 1, or background"}),
            },
            "optional": {
                "map": (
                    list(_KINDS),
                    {
                        "default": _KINDS[0],
                        "tooltip": "owner: black or white; refined, coarse: probabilities",
                    },
                ),
                "step": (
                    "INT",
                    {
                        "default": -1,
                        "min": -1000,
                        "max": 999,
                        "tooltip": "From 0; negative: from the last one on",
                    },
                ),
                "layer": (
                    "STRING",
                    {"default": "", "tooltip": "A name, or a number from 0; empty: all, averaged"},
                ),
            },
        }

    @in_a_sentence
    def show(
        self, pictures: DrawnPictures, subject: str, map: str = "owner", step: int = -1, layer: str = ""
    ) -> tuple[Tensor]:
        """A mask for each picture."""
        layers = None if not layer.strip() else [int(layer) if layer.strip().isdecimal() else layer.strip()]
        maps = [_map(record, subject, map, step, layers) for record in _records(pictures)]
        return (mask_batch(np.stack(maps)),)


class AnyStoryRoutingSheet:
    """Pages with all maps; see `anystory.engine.sheets.routing_sheet`."""

    DESCRIPTION = "A page for each picture: its routing maps by step and layer, and the references."
    CATEGORY = CATEGORY
    FUNCTION = "show"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("sheets",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """ComfyUI's description of the inputs."""
        return {"required": {"pictures": (PICTURES,)}}

    @in_a_sentence
    def show(self, pictures: DrawnPictures) -> tuple[Tensor]:
        """A page for each picture."""
        from anystory.engine.sheets.routing_sheet import routing_sheet

        title = pictures.job.prompt
        pages = [
            routing_sheet(one.image, record, references=one.references, title=title)
            for one, record in zip(pictures.pictures, _records(pictures), strict=True)
        ]
        return (image_batch(pages),)


def _records(pictures: DrawnPictures) -> list[RoutingRecord]:
    records = [one.routing for one in pictures.pictures if one.routing is not None]
    if len(records) != len(pictures.pictures):
        raise ValueError("pictures have no routing maps: they were drawn without subjects, or the model has no router")
    return records


def _map(record: RoutingRecord, subject: str, kind: str, step: int, layers: list[Any] | None) -> np.ndarray:
    """(H, W) of one picture."""
    slot = _slot(record.names[0], subject)
    if kind != "owner":
        return record.mean(step=step, layers=layers, refined=kind == "refined")[slot]
    masks = record.masks(step=step, layers=layers)
    return masks[slot] if slot < len(masks) else ~np.any(masks, axis=0)


def _slot(names: tuple[str, ...], subject: str) -> int:
    """Which of the subjects, from 0; the background comes after them."""
    asked = subject.strip()
    if names.count(asked) == 1:
        return names.index(asked)
    if asked == _BACKGROUND:
        return len(names)
    if asked.isdecimal() and 1 <= int(asked) <= len(names):
        return int(asked) - 1
    known = ", ".join(map(repr, names))
    raise ValueError(f"subject must be one of {known}, its number from 1, or {_BACKGROUND!r}, got {subject!r}")
