"""Step `filter`: leaves out small, blurred and repeated photos, and those with too small or too large subjects."""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np
from pydantic import Field

from anystory.data.build.candidates import Candidate, Photo, Rejected, Rejection
from anystory.data.build.fingerprints import ImageFingerprint
from anystory.data.build.sources.base import BuildOptions
from anystory.subjects.prepare import matte_box

__all__ = ["Filter", "FilterOptions", "sharpness"]

_SHARPNESS_SIDE = 512


class FilterOptions(BuildOptions):
    """What a photo must fulfil."""

    least_side: int = Field(default=256, ge=1)
    """The shorter side of the file, in pixels."""
    least_sharpness: float = Field(default=20.0, ge=0)
    """`sharpness` of the part that shows the subjects; 0 accepts everything."""
    duplicate_bits: int = Field(default=3, ge=-1, le=16)
    """Of matching photos of one item (`ImageFingerprint.matches`) the first stays; -1 keeps all."""
    least_subject: float = Field(default=0.02, ge=0, le=1)
    """The share of the picture that each subject covers at least,"""
    most_subject: float = Field(default=0.95, gt=0, le=1)
    """and at most: there must be a background."""


class Filter:
    """Leaves out photos, and the candidate if no target is left."""

    name: ClassVar[str] = "filter"
    version: ClassVar[int] = 1
    Options: ClassVar[type[BuildOptions]] = FilterOptions

    def __init__(self, options: FilterOptions) -> None:
        self.options = options

    def __call__(self, candidate: Candidate) -> list[Candidate] | Rejected:
        photos: list[Photo] = []
        dropped: list[Rejection] = []
        seen: list[ImageFingerprint] = []
        bits = self.options.duplicate_bits
        for photo in candidate.photos:
            fingerprint = ImageFingerprint.of(photo.rgb)
            twin = next((i for i, other in enumerate(seen) if other.matches(fingerprint, bits)), None)
            found = self._fault(photo)
            if found is None and twin is not None:
                found = "duplicate", f"{photo.name} shows the same as {photos[twin].name}"
            if found is None:
                photos.append(photo)
                seen.append(fingerprint)
            else:
                dropped.append(Rejection(reason=found[0], what=photo.name, detail=found[1]))
        return candidate.left_with(photos, dropped)

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
            least = f"{options.least_sharpness:g}"
            return "blurred", f"{photo.name} is blurred: sharpness {measured:.1f}, less than {least}"
        return None


def _part(rgb: np.ndarray, mattes: list[np.ndarray]) -> np.ndarray:
    """The smallest part of the picture that holds all subjects: their background may be soft."""
    if not mattes:
        return rgb
    left, top, right, bottom = matte_box(np.maximum.reduce(mattes))
    return rgb[top:bottom, left:right]


def sharpness(rgb: np.ndarray) -> float:
    """Variance of the Laplacian of the brightness (0…255): under about 20 for blurred photographs.

    Args:
        rgb: (H, W, 3) uint8; measured on a copy with a longer side of at most 512, so that the size does not matter.
    """
    factor = _SHARPNESS_SIDE / max(rgb.shape[:2])
    if factor < 1:
        size = max(round(rgb.shape[1] * factor), 1), max(round(rgb.shape[0] * factor), 1)
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())
