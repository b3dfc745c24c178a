"""A data set in numbers: what is in it, how large it is, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from anystory.data.bad_samples import BadSample, BadTally
from anystory.data.pixels import ReadLimits
from anystory.data.reading import LoadedSample, read_sample
from anystory.data.sources import read_ahead
from anystory.data.table import SampleSource, SampleTable

__all__ = ["Census", "SampleFacts", "facts_of", "take_census"]


@dataclass(frozen=True)
class SampleFacts:
    """What is counted of a good sample: small, as it is sent between processes."""

    width: int
    height: int
    photos: tuple[int, ...]
    """Per subject."""
    masked: bool
    mask_shares: tuple[float, ...]
    place: bool
    words: int
    source: str
    licence: str


def facts_of(sample: LoadedSample) -> SampleFacts:
    """What is counted of a good sample."""
    height, width = sample.image.shape[:2]
    return SampleFacts(
        width=width,
        height=height,
        photos=tuple(len(photos) for photos in sample.references),
        masked=sample.masked,
        mask_shares=tuple(float(share) for share in sample.masks.mean(axis=(1, 2))) if sample.masked else (),
        place=sample.place is not None,
        words=len(sample.caption.split()),
        source=sample.source,
        licence=sample.licence,
    )


@dataclass
class Census:
    """Counts of the good samples, and the tally of the bad ones."""

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

    def add(self, table: SampleTable, index: int, found: SampleFacts | BadSample) -> None:
        """Count a sample.

        Args:
            table: The source's.
            index: The sample's in it.
            found: What is in the sample, or what is wrong with it.
        """
        self.splits["heldout" if table.heldout[index] else "train"] += 1
        if isinstance(found, BadSample):
            self.tally.add(table.keys[index], found)
            return
        self.tally.add(table.keys[index], None)
        self.subjects[len(found.photos)] += 1
        self.photos.update(found.photos)
        self.unmasked += not found.masked
        self.places += found.place
        self.widths.append(found.width)
        self.heights.append(found.height)
        self.mask_shares += found.mask_shares
        self.words.append(found.words)
        self.sources[found.source or "(not given)"] += 1
        self.licences[found.licence or "(not given)"] += 1

    def to_dict(self) -> dict[str, Any]:
        """Counts, and of lists the least, median and greatest value: for a JSON file."""
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
    *,
    limits: ReadLimits | None = None,
    workers: int = 0,
    seen: Callable[[int], None] = lambda _: None,
) -> Census:
    """Read every sample and count.

    Args:
        source: A manifest or shards.
        limits: What makes a sample bad; None takes the defaults.
        workers: Reading processes; 0 reads in this one. The result is the same.
        seen: Called with the number of samples that were read.

    Raises:
        ValueError: a reading process died.
    """
    census = Census()
    look = partial(_look, source, limits)
    with closing(read_ahead(look, range(len(source)), source.table.keys, workers)) as found:
        for index, facts in enumerate(found):
            census.add(source.table, index, facts)
            seen(census.tally.seen)
    return census


def _look(source: SampleSource, limits: ReadLimits | None, index: int) -> SampleFacts:
    record, open_member = source.open_sample(index)
    return facts_of(read_sample(record, open_member, limits=limits))
