"""What flows from step to step: photos of subjects, then a target with references.

Legend: H × W pixels of a photo, row first.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

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
    """In words what it shows; empty until somebody said so."""
    original: tuple[int, int] = (0, 0)
    """(height, width) of the file, before it was made smaller."""
    lossless: bool = False
    """Whether the file it comes from keeps every pixel, so that it is worth keeping them."""
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
    """Whether the input is at fault (a damaged file, a mask of another size) rather than not good enough."""
    unit: str = "photo"
    """What was left out: a `photo` (or a part of a clip), a `sample`, or a whole `item`."""


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A step's answer when nothing is left of a candidate."""

    reason: str
    detail: str
    bad: bool = False
    dropped: tuple[Rejection, ...] = ()
    """The photos whose faults left nothing, besides those that the candidate had dropped before."""


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
    dropped: tuple[Rejection, ...] = field(default=())
    """Photos that were left out on the way, while the candidate went on."""

    @property
    def target(self) -> Photo:
        """The target of a paired candidate."""
        assert self.references is not None, "only a paired candidate has a target"
        return self.photos[0]

    def with_photos(self, photos: tuple[Photo, ...], dropped: tuple[Rejection, ...] = ()) -> Candidate:
        """The candidate with other photos; `dropped` is added to what was left out."""
        return replace(self, photos=photos, dropped=self.dropped + dropped)
