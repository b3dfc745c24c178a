"""Opening a data set by its path, and reading it ahead by several processes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from anystory.data.bad_samples import BadSample
from anystory.data.manifest import MANIFEST_SUFFIXES, Manifest
from anystory.data.shards.index import shard_paths
from anystory.data.shards.shard_set import ShardSet
from anystory.data.table import SampleSource
from anystory.process_pool import WorkerDied, in_order

__all__ = ["evenly", "open_source", "read_ahead"]

T = TypeVar("T")


def open_source(paths: str | Path | Sequence[str | Path]) -> SampleSource:
    """Open a manifest (`.jsonl`, `.parquet`), a folder with a `manifest.jsonl` or shards, or several folders of shards.

    Raises:
        ValueError: nothing of that kind is there, or its manifest or index is wrong.
    """
    listed = [Path(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    if len(listed) == 1:
        path = listed[0]
        if path.suffix in MANIFEST_SUFFIXES and not path.is_dir():
            if not path.is_file():
                raise ValueError(f"no manifest at {path}")
            return Manifest(path)
        if path.is_dir() and not shard_paths(path):
            for manifest in (path / f"manifest{suffix}" for suffix in MANIFEST_SUFFIXES):
                if manifest.is_file():
                    return Manifest(manifest)
            raise ValueError(f"{path} holds neither shards (NAME-000000.tar) nor a manifest (manifest.jsonl)")
    return ShardSet.open(listed)


def read_ahead(
    read: Callable[[int], T], indices: Sequence[int], keys: Sequence[str], workers: int, *, chunk: int = 16
) -> Generator[T | BadSample, None, None]:
    """What `read` returns for each sample, in the order of the indices; a bad sample is given, not raised.

    Args:
        read: Reads a sample by its index in the source; picklable.
        indices: Which samples.
        keys: Of all samples of the source, for messages.
        workers: Reading processes; 0 reads in this one, with the same results.
        chunk: Samples that a process reads at once.

    Raises:
        ValueError: a process died, or `workers` is negative.
        Exception: what `read` raises besides BadSample, when it is that sample's turn.
    """
    if workers < 0:
        raise ValueError(f"`workers` must be at least 0, got {workers}")
    try:
        workers = min(workers, -(-len(indices) // chunk))
        yield from in_order(partial(partial, _read_or_bad, read), indices, workers, chunk=chunk)
    except WorkerDied as died:
        first, last = died.task[0], died.task[-1]
        raise ValueError(
            f"a reading process died (exit code {died.code}) at the samples {keys[first]} to {keys[last]}. If the "
            "memory was full, use fewer --workers"
        ) from None


def _read_or_bad(read: Callable[[int], T], index: int) -> T | BadSample:
    try:
        return read(index)
    except BadSample as error:
        return error


def evenly(values: Sequence[T], count: int) -> list[T]:
    """At most `count` of the values, with equal steps between them, starting with the first."""
    if len(values) <= count:
        return list(values)
    return [values[i * len(values) // count] for i in range(count)]
