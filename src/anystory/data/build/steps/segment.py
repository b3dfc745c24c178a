"""Step `segment`: finds the subject of a photo that has no mask or transparent background."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from anystory.data.build.candidates import Candidate, Photo, Rejected, Rejection
from anystory.data.build.sources.base import BuildOptions
from anystory.subjects.segmenter import find_segmenter

__all__ = ["Segment", "SegmentOptions"]


class SegmentOptions(BuildOptions):
    """How a subject is separated from its background."""

    method: str = "auto"
    """"auto" (a plain border, else GrabCut), "border", "grabcut"; "u2netp" and the other ONNX models of
    `subjects.onnx_models`, or the path of such a file; or the hub id or folder of a transformers image-segmentation
    model."""
    least_confidence: float = Field(default=0.0, ge=0, le=1)
    """Photos whose cut-out is less certain are left out; see `subjects.cutout.Cutout`."""


class Segment:
    """Gives every instance without a matte one. Photos in which no subject is found are left out."""

    name: ClassVar[str] = "segment"
    version: ClassVar[int] = 1
    Options: ClassVar[type[BuildOptions]] = SegmentOptions

    def __init__(self, options: SegmentOptions) -> None:
        self.options = options
        self._cut = find_segmenter(options.method)  # a model that cannot be loaded stops the build, not every item

    def __call__(self, candidate: Candidate) -> list[Candidate] | Rejected:
        photos: list[Photo] = []
        dropped: list[Rejection] = []
        for photo in candidate.photos:
            if all(instance.matte is not None for instance in photo.instances):
                photos.append(photo)
                continue
            matte = self._matte(photo)
            if isinstance(matte, Rejection):
                dropped.append(matte)
            else:
                found = tuple(i if i.matte is not None else replace(i, matte=matte) for i in photo.instances)
                photos.append(replace(photo, instances=found))
        return candidate.left_with(photos, dropped)

    def _matte(self, photo: Photo) -> np.ndarray | Rejection:
        if sum(instance.matte is None for instance in photo.instances) > 1:
            detail = f"{photo.name} has several subjects without a mask: only a single one can be found without"
            return Rejection(reason="no_mask", what=photo.name, detail=detail, bad=True)
        found = self._cut(photo.rgb)
        if found is None:
            detail = f"no subject was found in {photo.name} (method {self.options.method})"
            return Rejection(reason="no_subject", what=photo.name, detail=detail)
        if found.confidence < self.options.least_confidence:
            detail = (
                f"the cut-out of {photo.name} is uncertain: confidence {found.confidence:.2f} by {found.method}, less "
                f"than {self.options.least_confidence:g}"
            )
            return Rejection(reason="uncertain", what=photo.name, detail=detail)
        return found.matte
