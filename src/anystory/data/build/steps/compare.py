"""Step `compare`: pairs that are too alike teach copying, pairs that are too different show another subject."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from anystory.data.build.candidates import Candidate, Photo, Rejected, Rejection
from anystory.data.build.similarity import CutoutSimilarity, ModelSimilarity, Similarity
from anystory.data.build.sources.base import BuildOptions

__all__ = ["Compare", "CompareOptions"]


class CompareOptions(BuildOptions):
    """How a target and its references are compared, and how alike they may be."""

    model: str | None = None
    """Hub id or folder of a transformers image model, such as CLIP or DINOv2; None compares hashes and colours."""
    alike: float | None = Field(default=None, ge=0, le=1)
    """More alike references are left out; None: the default of the way of comparing, 1: never."""
    different: float | None = Field(default=None, ge=0, le=1)
    """Less alike references are left out; None: the default of the way of comparing, 0: never."""


class Compare:
    """Leaves out references; a sample in which a subject keeps none is rejected."""

    name: ClassVar[str] = "compare"
    version: ClassVar[int] = 1
    Options: ClassVar[type[BuildOptions]] = CompareOptions

    def __init__(self, options: CompareOptions) -> None:
        self.options = options
        self._by: Similarity = ModelSimilarity(options.model) if options.model else CutoutSimilarity()
        self._alike = self._by.alike if options.alike is None else options.alike
        self._different = self._by.different if options.different is None else options.different

    def __call__(self, candidate: Candidate) -> list[Candidate] | Rejected:
        if candidate.references is None:
            return Rejected(reason="not_paired", detail="put the step `pair` before `compare`", bad=True)
        kept: list[tuple[Photo, ...]] = []
        dropped: list[Rejection] = []
        for number, references in enumerate(candidate.references):
            left = []
            mine: list[Rejection] = []
            described = self._by.describe(candidate.target, number) if references else None
            for photo in references:
                fault = self._fault(candidate.target, described, photo)
                if fault is None:
                    left.append(photo)
                else:
                    mine.append(fault)
            if mine and not left:
                detail = f"{candidate.key}: {mine[0].detail}; no other is left"
                return Rejected(reason=mine[0].reason, detail=detail, dropped=(*dropped, *mine))
            kept.append(tuple(left))
            dropped += mine
        return [replace(candidate, references=tuple(kept), dropped=(*candidate.dropped, *dropped))]

    def _fault(self, target: Photo, described: object, photo: Photo) -> Rejection | None:
        likeness = self._by.compare(described, self._by.describe(photo))
        what = f"{photo.name} for {target.name}"
        if likeness.picture > self._alike:
            detail = f"{photo.name} is nearly {target.name} ({likeness.picture:.2f}, more than {self._alike:g}): a copy"
            return Rejection(reason="too_alike", what=what, detail=detail)
        if likeness.subject < self._different:
            detail = (
                f"{photo.name} seems to show another subject than {target.name} "
                f"({likeness.subject:.2f}, less than {self._different:g})"
            )
            return Rejection(reason="too_different", what=what, detail=detail)
        return None
