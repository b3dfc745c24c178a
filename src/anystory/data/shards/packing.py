"""A manifest's samples as shards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from anystory.data.bad_samples import BadSample, BadTally
from anystory.data.manifest import Manifest
from anystory.data.pixels import ReadLimits
from anystory.data.reading import read_sample
from anystory.data.shards.writer import ShardWriter

__all__ = ["pack_manifest"]


def pack_manifest(
    source: Manifest,
    folder: str | Path,
    name: str,
    *,
    max_bytes: int = 1_000_000_000,
    limit: float = 0.05,
    limits: ReadLimits | None = None,
    seen: Callable[[int], None] = lambda _: None,
) -> BadTally:
    """Write the good samples of a manifest, with unchanged files; bad ones are left out and counted.

    Samples that are already in the folder count as good and are not read again.

    Args:
        source: The manifest.
        folder: Where the shards go.
        name: Stem of their names.
        max_bytes: Of a shard.
        limit: Largest share of bad samples, checked at the end; shards that are full by then stay.
        limits: What makes a sample bad; None takes the defaults.
        seen: Called with the number of the manifest's samples that are done.

    Raises:
        ValueError: too many bad samples, or a name out of range.
    """
    tally = BadTally()
    with ShardWriter(folder, name, max_bytes=max_bytes) as writer:
        for index in range(len(source)):
            record, open_member = source.open_sample(index)
            try:
                if record.key not in writer:
                    read_sample(record, open_member, limits=limits)
                    writer.add(record, open_member)
            except BadSample as error:
                tally.add(record.key, error)
            else:
                tally.add(record.key, None)
            seen(index + 1)
        if tally.share > limit:
            raise ValueError(f"too many bad samples: {tally.summary()}. At most {limit:.1%} may be left out (--limit)")
    return tally
