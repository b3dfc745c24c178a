"""Step `pair`: one photo becomes the target, others of the same subjects its references."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from anystory.data.build.candidates import Candidate, Photo, Rejected
from anystory.data.build.sources.base import BuildOptions
from anystory.data.records import MOST_SUBJECTS
from anystory.data.sources import evenly

__all__ = ["Pair", "PairOptions"]


class PairOptions(BuildOptions):
    """How many samples an item gives, and how many photos each has."""

    targets: int | None = Field(default=None, ge=1)
    """At most this many photos of an item become targets, evenly spread; None: all."""
    references: int = Field(default=4, ge=1)
    """Most references of each subject."""
    per_target: int = Field(default=1, ge=1)
    """Samples with the same target and different references, as far as there are photos."""
    same_picture: bool = False
    """Cut the reference of a subject without another photo out of the target, as the paper does for stage 2."""


class Pair:
    """Makes samples of an item's photos: each a target with references from other photos."""

    name: ClassVar[str] = "pair"
    version: ClassVar[int] = 1
    Options: ClassVar[type[BuildOptions]] = PairOptions

    def __init__(self, options: PairOptions) -> None:
        self.options = options

    def __call__(self, candidate: Candidate) -> list[Candidate] | Rejected:
        unmasked = next((p.name for p in candidate.photos if any(i.matte is None for i in p.instances)), None)
        if unmasked is not None:
            detail = f"{unmasked} has no mask: put the step `segment` before `pair`"
            return Rejected(reason="no_mask", detail=detail, bad=True)
        made: list[Candidate] = []
        lacking: list[str] = []
        targets = [i for i, photo in enumerate(candidate.photos) if photo.target]
        for position in evenly(targets, self.options.targets or len(targets)):
            target = candidate.photos[position]
            if len(target.instances) > MOST_SUBJECTS:
                return Rejected(reason="crowd", detail=f"{target.name} has more than {MOST_SUBJECTS} subjects")
            others = candidate.photos[position + 1 :] + candidate.photos[:position]
            found = [_of_subject(others, instance.name) for instance in target.instances]
            alone = [i.name for i, photos in zip(target.instances, found, strict=True) if not photos]
            if alone and not self.options.same_picture:
                lacking.append(f"{', '.join(alone)} in {target.name}")
                continue
            for references in self._references(found):
                made.append(replace(candidate, photos=(target,), references=references, dropped=()))  # noqa: PERF401
        if not made:
            detail = f"no other photo of {'; '.join(lacking)}: a pair needs two photos of each subject"
            return Rejected(reason="one_photo", detail=detail)
        made = [replace(one, key=f"{candidate.key}-{number:03d}") for number, one in enumerate(made)]
        return [replace(made[0], dropped=candidate.dropped), *made[1:]]

    def _references(self, found: list[list[Photo]]) -> Iterator[tuple[tuple[Photo, ...], ...]]:
        """Of each sample of a target its subjects' references; the photos may suffice for fewer samples than wanted."""
        for number in range(self.options.per_target):
            references = tuple(self._choose(photos, number) for photos in found)
            lacks = any(photos and not chosen for photos, chosen in zip(found, references, strict=True))
            if number and (lacks or not any(references)):
                return
            yield references

    def _choose(self, photos: Sequence[Photo], number: int) -> tuple[Photo, ...]:
        """The references of a target's sample `number`: no photo serves two samples of a target."""
        mine = photos[number :: self.options.per_target] if self.options.per_target > 1 else photos
        return tuple(evenly(mine, self.options.references))


def _of_subject(photos: Sequence[Photo], name: str) -> list[Photo]:
    """The photos that show `name`, each with that instance alone."""
    found = []
    for photo in photos:
        instance = next((i for i in photo.instances if i.name == name), None)
        if instance is not None:
            found.append(replace(photo, instances=(instance,)))
    return found
