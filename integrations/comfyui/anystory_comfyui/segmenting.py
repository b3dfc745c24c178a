"""The node that finds subjects in a picture."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from anystory.engine.limits import MOST_SEED

from .host import StepBar
from .sentences import in_a_sentence
from .tensors import image_batch, mask_batch, pictures
from .wires import CATEGORY, MODEL, SUBJECTS, GivenSubject, LoadedModel

if TYPE_CHECKING:
    from torch import Tensor

    from anystory.segment.segmentation import Segmentation

__all__ = ["AnyStorySegment"]


class AnyStorySegment:
    """Masks of subjects by their references; see `anystory.segment`."""

    DESCRIPTION = "Finds your subjects in an existing picture, by the router's maps."
    CATEGORY = CATEGORY
    FUNCTION = "find"
    RETURN_TYPES = ("MASK", "MASK", "IMAGE", "STRING")
    RETURN_NAMES = ("masks", "soft_masks", "overlay", "report")
    OUTPUT_TOOLTIPS = (
        "A mask for each subject of the first picture, then of the next; empty for one that is not there",
        "The same as probabilities",
        "The pictures with each subject tinted",
        "Confidences and shares of the picture, as JSON",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """ComfyUI's description of the inputs."""
        return {
            "required": {"model": (MODEL,), "image": ("IMAGE",), "subjects": (SUBJECTS,)},
            "optional": {
                "prompt": ("STRING", {"default": "", "tooltip": "What the picture shows, if you know"}),
                "seed": ("INT", {"default": 0, "min": 0, "max": MOST_SEED, "tooltip": "Of the noise"}),
                "draws": (
                    "INT",
                    {"default": 0, "min": 0, "max": 64, "tooltip": "Draws of the noise; 0: as fitted"},
                ),
            },
        }

    @in_a_sentence
    def find(
        self,
        model: LoadedModel,
        image: Tensor,
        subjects: tuple[GivenSubject, ...],
        prompt: str = "",
        seed: int = 0,
        draws: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor, str]:
        """Masks of the picture's size, the picture tinted, and how sure that is."""
        from anystory.engine.segmenting import check_router, find_subjects

        check_router(model.model.options)
        encoded = [model.model.encode(one.read) for one in subjects]
        given, bar = pictures(image, "image"), StepBar()
        found = [
            find_subjects(
                model.model,
                one,
                encoded,
                prompt=prompt,
                seed=seed,
                draws=draws or None,
                on_step=lambda step, number=number: bar(replace(step, picture=number, pictures=len(given))),
            )[0]
            for number, one in enumerate(given, start=1)
        ]
        return (
            mask_batch(np.concatenate([one.masks for one in found])),
            mask_batch(np.concatenate([one.soft for one in found])),
            image_batch([one.overlay() for one in found]),
            json.dumps([_report(one) for one in found], ensure_ascii=False, indent=2),
        )


def _report(found: Segmentation) -> list[dict[str, Any]]:
    """What was found in one picture, subject by subject."""
    return [
        {
            "name": name,
            "present": bool(found.present[i]),
            "confidence": round(float(found.confidence[i]), 4),
            "share": round(float(found.masks[i].mean()), 4),
        }
        for i, name in enumerate(found.names)
    ]
