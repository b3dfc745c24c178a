"""The node that makes a subject of pictures, and what the nodes of subjects share."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from anystory.engine.job import PhotoFiles, SubjectFiles
from anystory.subjects.cutout import BUILT_IN_SEGMENTERS
from anystory.subjects.onnx_models import ONNX_MODELS
from anystory.subjects.pictures import Picture, over_white
from anystory.subjects.prepare import CutPicture

from .files import as_file
from .sentences import in_a_sentence
from .tensors import image_batch, mask_batch, mask_pictures, pictures
from .wires import CATEGORY, SUBJECTS, GivenSubject

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SETTINGS", "AnyStorySubject", "subject_outputs"]

_STRENGTH = {"default": 1.0, "min": 0.0, "max": 4.0, "step": 0.05}
SETTINGS: dict[str, Any] = {
    "subjects": (SUBJECTS, {"tooltip": "Subjects that come before this one: connect one node to the next"}),
    "region": ("MASK", {"tooltip": "White where it goes, of any size; unconnected, the router decides"}),
    "scale": ("FLOAT", _STRENGTH | {"tooltip": "Strength of the coarse identity"}),
    "reference_scale": ("FLOAT", _STRENGTH | {"tooltip": "Strength of the details; 0 removes them"}),
}
"""Optional inputs of every node that makes a subject."""


class AnyStorySubject:
    """A character or thing by one picture, or by a batch of pictures of it; see `anystory.Subject`."""

    DESCRIPTION = "A character or thing by its pictures. A batch is several photos of the same one."
    CATEGORY = CATEGORY
    FUNCTION = "give"
    RETURN_TYPES = (SUBJECTS, "IMAGE", "MASK")
    RETURN_NAMES = ("subjects", "cutout", "cutout_mask")
    OUTPUT_TOOLTIPS = ("Those before it and this one", "Its first picture as the model reads it", "Where it is there")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """ComfyUI's description of the inputs."""
        white = "White where it is. Load Image gives the opposite for a transparent picture: put Invert Mask between"
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "One picture, or several photos of the same character; alpha counts"}),
                "name": ("STRING", {"default": "", "tooltip": "What maps and records call it"}),
            },
            "optional": {
                "mask": ("MASK", {"tooltip": white}),
                "segmenter": (
                    [*BUILT_IN_SEGMENTERS, *ONNX_MODELS],
                    {"default": "auto", "tooltip": "What cuts it out where there is neither mask nor alpha"},
                ),
                **SETTINGS,
            },
        }

    @in_a_sentence
    def give(
        self,
        image: Tensor,
        name: str = "",
        mask: Tensor | None = None,
        segmenter: str = "auto",
        subjects: tuple[GivenSubject, ...] = (),
        **settings: Any,
    ) -> tuple[Any, ...]:
        """The subjects so far with this one, and how it was cut out."""
        name = name.strip()
        found = pictures(image, "image")
        masks = [] if mask is None else mask_pictures(mask, "mask")
        if masks and len(masks) != len(found):
            raise ValueError(f"mask must be one for each picture: there are {len(masks)} for {len(found)}")
        photos = [
            PhotoFiles(as_file(photo, name or "subject"), None if white is None else as_file(white, f"{name}-mask"))
            for photo, white in itertools.zip_longest(found, masks)
        ]
        return subject_outputs(subjects, photos, name or None, segmenter=segmenter, **settings)


def subject_outputs(
    before: tuple[GivenSubject, ...],
    photos: list[PhotoFiles],
    name: str | None,
    *,
    region: Tensor | None = None,
    **settings: Any,
) -> tuple[Any, ...]:
    """A subject behind others, with its first picture and mask as the model reads them.

    Args:
        before: The others.
        photos: Its pictures.
        name: What outputs call it.
        region: A MASK, white where it goes.
        settings: Further fields of `Subject`.

    Raises:
        ValueError: a picture, a mask or a region that cannot be used.
    """
    image, *more = photos
    places = [] if region is None else mask_pictures(region, "region")
    if len(places) > 1:
        raise ValueError(f"region must be one mask, got a batch of {len(places)}")
    files = SubjectFiles(
        image=image.image,
        mask=image.mask,
        more=tuple(more),
        name=name,
        region_mask=as_file(places[0], f"{name or 'subject'}-region") if places else None,
        settings=settings,
    )
    read = files.subject().read()
    cut: CutPicture = read.image if isinstance(read.image, CutPicture) else read.image[0]  # type: ignore[assignment]
    white = over_white(Picture(cut.rgb, cut.matte, cut.sha256))
    given = GivenSubject(files=files, read=read)
    return (*before, given), image_batch([white]), mask_batch(cut.matte[None] / np.float32(255))
