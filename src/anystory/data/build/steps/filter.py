"""Step `filter`: photos that are too small, blurred, or there twice, and subjects that are too small or too large."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from anystory.data.build.candidates import Candidate, Photo, Rejected, Rejection
from anystory.data.build.measures import Look, look, same_look, sharpness
from anystory.data.build.sources.base import Options
from anystory.data.build.steps.base import without
from anystory.subjects.prepare import matte_box

__all__ = ["Filter", "FilterOptions"]


class FilterOptions(Options):
    """What a photo must keep to."""

    least_side: int = Field(default=256, ge=1)
    """The shorter side of the file, in pixels."""
    least_sharpness: float = Field(default=20.0, ge=0)
    """`measures.sharpness` of the part that shows the subjects; 0 lets everything through."""
    duplicate_bits: int = Field(default=3, ge=-1, le=16)
    """Photos of one item that look the same (`measures.same_look`) are one; -1 keeps them all."""
    least_subject: float = Field(default=0.02, ge=0, le=1)
    """The share of the picture that each subject covers at least,"""
    most_subject: float = Field(default=0.95, gt=0, le=1)
    """and at most: there must be a background."""


class Filter:
    """Leaves out photos, and the candidate if no target is left."""

    name: ClassVar[str] = "filter"
    version: ClassVar[int] = 1
    Options: ClassVar[type[Options]] = FilterOptions

    def __init__(self, options: FilterOptions) -> None:
        self.options = options

    def __call__(self, candidate: Candidate) -> list[Candidate] | Rejected:
        photos: list[Photo] = []
        dropped: list[Rejection] = []
        looks: list[Look] = []
        for photo in candidate.photos:
            seen = look(photo.rgb)
            twin = next(
                (i for i, other in enumerate(looks) if same_look(other, seen, self.options.duplicate_bits)), None
            )
            found = self._fault(photo)
            if found is None and twin is not None:
                found = "duplicate", f"{photo.name} shows the same as {photos[twin].name}"
            if found is None:
                photos.append(photo)
                looks.append(seen)
            else:
                dropped.append(Rejection(reason=found[0], what=photo.name, detail=found[1]))
        return without(candidate, photos, dropped)

    def _fault(self, photo: Photo) -> tuple[str, str] | None:
        """(reason, sentence) of the first thing that is wrong with the photo by itself."""
        options = self.options
        height, width = photo.original
        if min(height, width) < options.least_side:
            return "small", f"{photo.name} is {width}×{height}: each side must be at least {options.least_side} pixels"
        mattes = [instance.matte for instance in photo.instances if instance.matte is not None]
        for instance in photo.instances:
            if instance.matte is None:
                continue
            share = float((instance.matte >= 128).mean())
            who = f"{instance.name} covers {share:.1%} of {photo.name}"
            if share < options.least_subject:
                return "subject_small", f"{who}, less than {options.least_subject:.1%}"
            if share > options.most_subject:
                return "subject_large", f"{who}, more than {options.most_subject:.1%}"
        measured = sharpness(_part(photo.rgb, mattes))
        if measured < options.least_sharpness:
            return (
                "blurred",
                f"{photo.name} is blurred: sharpness {measured:.1f}, less than {options.least_sharpness:g}",
            )
        return None


def _part(rgb: np.ndarray, mattes: list[np.ndarray]) -> np.ndarray:
    """The smallest part of the picture that holds all subjects: a soft background is no blur."""
    if not mattes:
        return rgb
    left, top, right, bottom = matte_box(np.maximum.reduce(mattes))
    return rgb[top:bottom, left:right]
