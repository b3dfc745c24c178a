"""Going through a data set: bad samples are passed over, counted and reported; too many of them stop the run."""

from __future__ import annotations

from collections.abc import Iterator

from anystory.data.bad import BadSample, BadTally
from anystory.data.pixels import ReadLimits
from anystory.data.reading import LoadedSample, read_sample
from anystory.data.table import SampleSource

__all__ = ["SampleReader"]


class SampleReader:
    """Decoded, checked samples of a source.

        reader = SampleReader(open_source("shards"), limit=0.02)
        for sample in reader: ...
        print(reader.tally.summary())

    Args:
        source: A manifest or shards.
        limit: Largest share of bad samples, in [0, 1], that iterating puts up with; None puts up with any.
        least_seen: Samples to see before that share means something; at the end of the source it counts anyway.
        limits: What makes a sample bad; None takes the defaults.

    Raises:
        ValueError: `limit` is no share.
    """

    def __init__(
        self,
        source: SampleSource,
        *,
        limit: float | None = 0.05,
        least_seen: int = 100,
        limits: ReadLimits | None = None,
    ) -> None:
        if limit is not None and not 0 <= limit <= 1:
            raise ValueError(f"`limit` is the largest share of bad samples, from 0 to 1, got {limit!r}")
        self.source, self.limit, self.least_seen = source, limit, least_seen
        self.limits = limits or ReadLimits()
        self.tally = BadTally()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> LoadedSample:
        """One sample.

        Raises:
            BadSample: it cannot be used.
        """
        record, open_member = self.source.open_sample(index)
        return read_sample(record, open_member, limits=self.limits)

    def __iter__(self) -> Iterator[LoadedSample]:
        """The good samples in their order; the tally begins anew.

        Raises:
            ValueError: a larger share than `limit` is bad.
        """
        self.tally = BadTally()
        for index in range(len(self.source)):
            try:
                sample = self[index]
            except BadSample as error:
                self.tally.add(self.source.table.keys[index], error)
                self._check(self.least_seen)
                continue
            self.tally.add(sample.key, None)
            yield sample
        self._check(least_seen=1)

    def over_limit(self) -> bool:
        """Whether a larger share than `limit` is bad."""
        return self.limit is not None and self.tally.share > self.limit

    def _check(self, least_seen: int) -> None:
        if self.tally.seen >= least_seen and self.over_limit():
            raise ValueError(
                f"too many bad samples: {self.tally.summary()}. At most {self.limit:.1%} may be bad; "
                "`anystory data check` tells all kinds"
            )
