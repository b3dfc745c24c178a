"""What flows from step to step: photos of subjects, then a target with references.

Legend: H × W pixels of a photo, row first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

__all__ = ["Candidate", "Instance", "Photo", "Rejected", "Rejection"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Instance:
    """One subject as one photo shows it."""

    name: str
    """Who it is: photos of an item that use the same name show the same subject."""
    matte: np.ndarray | None
    """(H, W) uint8, 255 where the subject is; None until it has been segmented."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Photo:
    """A decoded picture and who is in it."""

    name: str
    """Where it comes from, for people: a path inside the source's folder, `clip.mp4@3.00s` for a frame."""
    rgb: np.ndarray
    """(H, W, 3) uint8."""
    instances: tuple[Instance, ...]
    caption: str = ""
    """What it shows, in words; empty until it is known."""
    original: tuple[int, int] = (0, 0)
    """(height, width) of the file, before it was made smaller."""
    lossless: bool = False
    """Whether its file keeps every pixel, so that the sample should, too."""
    target: bool = True
    """Whether it may be a target; False for pictures that were given as references only."""


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """One thing that did not become training data, and why."""

    reason: str
    """A short name for counting, such as `blurred`."""
    what: str
    """The photo, sample or item."""
    detail: str
    """A sentence."""
    bad: bool = False
    """Whether the input is faulty (a damaged file, a mask of another size) rather than not good enough."""
    unit: str = "photo"
    """What was left out: a `photo` (or a part of a clip), a `sample`, an `item`, a `file` that belongs to no item, or a
    `row` of a table."""


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A step's answer when nothing is left of a candidate."""

    reason: str
    detail: str
    bad: bool = False
    dropped: tuple[Rejection, ...] = ()
    """The photos that were left out last, besides those that the candidate had dropped before."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """What may become a sample.

    Before pairing `photos` are all photos of an item. After it there is one, the target, and `references[i]` are the
    photos of its instance i, each with that one instance.
    """

    key: str
    """A valid sample key; a step that makes several candidates of one appends to it."""
    photos: tuple[Photo, ...]
    references: tuple[tuple[Photo, ...], ...] | None = None
    """None before pairing; empty for an instance whose references are cut out of the target itself."""
    dropped: tuple[Rejection, ...] = ()
    """Photos that were left out so far."""

    @property
    def target(self) -> Photo:
        """The target of a paired candidate."""
        assert self.references is not None, "only a paired candidate has a target"
        return self.photos[0]

    def left_with(self, photos: Sequence[Photo], dropped: Sequence[Rejection]) -> list[Candidate] | Rejected:
        """The candidate with the photos that are left; rejected if none of them can be a target."""
        if any(photo.target for photo in photos):
            return [replace(self, photos=tuple(photos), dropped=(*self.dropped, *dropped))]
        first = dropped[0]
        more = f" (and {len(dropped) - 1} more photos are left out)" if len(dropped) > 1 else ""
        return Rejected(reason=first.reason, detail=first.detail + more, bad=first.bad, dropped=tuple(dropped))
