"""A data set in numbers: what is in it, how large, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anystory.data.bad import BadSample, BadTally
from anystory.data.reader import SampleReader
from anystory.data.reading import LoadedSample
from anystory.data.table import SampleSource

__all__ = ["Census", "take_census"]


@dataclass
class Census:
    """What was counted on the good samples, and the tally of the bad ones."""

    tally: BadTally = field(default_factory=BadTally)
    splits: Counter[str] = field(default_factory=Counter)
    """Of all samples, good or bad."""
    subjects: Counter[int] = field(default_factory=Counter)
    """Samples by their number of subjects."""
    photos: Counter[int] = field(default_factory=Counter)
    """Subjects by their number of reference photos."""
    unmasked: int = 0
    """Samples whose only subject has no mask."""
    places: int = 0
    """Samples with a picture of the place."""
    widths: list[int] = field(default_factory=list)
    heights: list[int] = field(default_factory=list)
    mask_shares: list[float] = field(default_factory=list)
    """Per subject with a mask, its share of the picture."""
    words: list[int] = field(default_factory=list)
    """Per caption."""
    sources: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)

    def add(self, sample: LoadedSample) -> None:
        """Count a good sample."""
        height, width = sample.image.shape[:2]
        self.subjects[len(sample.masks)] += 1
        self.photos.update(len(photos) for photos in sample.references)
        self.unmasked += not sample.masked
        self.places += sample.place is not None
        self.widths.append(width)
        self.heights.append(height)
        if sample.masked:
            self.mask_shares += [float(share) for share in sample.masks.mean(axis=(1, 2))]
        self.words.append(len(sample.caption.split()))
        self.sources[sample.source or "(not said)"] += 1
        self.licences[sample.licence or "(not said)"] += 1

    def to_dict(self) -> dict[str, Any]:
        """Counts as they are, lists as their least, median and greatest value: for a JSON file."""
        return {
            "samples": self.tally.seen,
            "bad": self.tally.bad,
            "bad_share": self.tally.share,
            "bad_by_reason": dict(self.tally.counts),
            "bad_examples": self.tally.examples,
            "splits": dict(self.splits),
            "subjects": dict(self.subjects),
            "photos": dict(self.photos),
            "unmasked": self.unmasked,
            "places": self.places,
            "sources": dict(self.sources),
            "licences": dict(self.licences),
            **{name: spread(getattr(self, name)) for name in ("widths", "heights", "mask_shares", "words")},
        }


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Least, median and greatest; None of nothing."""
    if not values:
        return None
    return {"least": min(values), "median": float(np.median(values)), "greatest": max(values)}


def take_census(
    source: SampleSource,
    indices: Sequence[int] | None = None,
    *,
    reader: SampleReader | None = None,
    seen: Callable[[int], None] = lambda _: None,
    each: Callable[[int, LoadedSample], None] = lambda _, __: None,
) -> Census:
    """Read samples and count.

    Args:
        source: A manifest or shards.
        indices: Which samples; None reads them all.
        reader: Reads them; None takes one with the default limits.
        seen: Is told after each sample how many were read.
        each: Gets each good sample with its index.
    """
    reader = reader or SampleReader(source, limit=None)
    census = Census()
    for index in range(len(source)) if indices is None else indices:
        census.splits["heldout" if source.table.heldout[index] else "train"] += 1
        try:
            sample = reader[index]
        except BadSample as error:
            census.tally.add(source.table.keys[index], error)
        else:
            census.tally.add(sample.key, None)
            census.add(sample)
            each(index, sample)
        seen(census.tally.seen)
    return census
