"""Step `segment`: who is where in a photo, if no mask or transparent background says so."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from anystory.data.build.candidates import Candidate, Photo, Rejected, Rejection
from anystory.data.build.sources.base import Options
from anystory.data.build.steps.base import without
from anystory.subjects.cutout import WAYS
from anystory.subjects.segmenter import ModelSegmenter

__all__ = ["Segment", "SegmentOptions"]


class SegmentOptions(Options):
    """How a subject is told from its background."""

    method: str = "auto"
    """"auto" (a plain border, else GrabCut), "border", "grabcut", or the hub id or folder of a transformers
    image-segmentation model."""


class Segment:
    """Gives every instance without a matte one. Photos in which no subject is found are left out."""

    name: ClassVar[str] = "segment"
    version: ClassVar[int] = 1
    Options: ClassVar[type[Options]] = SegmentOptions

    def __init__(self, options: SegmentOptions) -> None:
        self.options = options
        self._cut = WAYS.get(options.method) or _loaded(options.method)

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
        return without(candidate, photos, dropped)

    def _matte(self, photo: Photo) -> np.ndarray | Rejection:
        if sum(instance.matte is None for instance in photo.instances) > 1:
            detail = f"{photo.name} has several subjects without a mask: only one can be found by itself"
            return Rejection(reason="no_mask", what=photo.name, detail=detail, bad=True)
        matte = self._cut(photo.rgb)
        if matte is None:
            detail = f"no subject could be told from its background in {photo.name} (method {self.options.method})"
            return Rejection(reason="no_subject", what=photo.name, detail=detail)
        return matte


def _loaded(model: str) -> ModelSegmenter:
    """A model that cannot be loaded must stop the build, and not reject every item."""
    segmenter = ModelSegmenter(model)
    segmenter.load()
    return segmenter
