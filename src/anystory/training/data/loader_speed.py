"""How fast samples come out of a data set: rates to be compared with a training step's."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from anystory.data.reading import read_sample
from anystory.data.sources import open_source
from anystory.data.stream.training_set import TrainingSet
from anystory.training.data.stream import stream_batches

__all__ = ["loader_speed"]


def loader_speed(
    folders: str | Path | Sequence[str | Path],
    *,
    resolution: int,
    reference_size: int | None = None,
    samples: int = 64,
    workers: int = 0,
    batch_size: int = 8,
    max_subjects: int = 4,
) -> dict[str, float]:
    """Samples a second, each rate with all work of those before it; the first pass over the data is not timed.

    Args:
        folders: A data set; see `open_source`.
        resolution: Side of the targets, pixels.
        reference_size: Side of the references; None: `resolution`.
        samples: How many are timed; the set is gone through again if it has fewer.
        workers: Loader processes of the rate "batches"; 0 loads in this one.
        batch_size: Of that rate.
        max_subjects: Samples with more are left out.

    Returns:
        "read": record and bytes from disk. "decode": every picture, all checks. "training": one sample of a
        `TrainingSet`. These count the seconds that a core works for this process, whatever else runs beside it.
        "batches": the same through the training's loader, by the clock on the wall.

    Raises:
        ValueError: the data set cannot be opened, or has no fitting sample.
    """
    source = open_source(folders)
    data = TrainingSet(
        folders,
        resolution=resolution,
        reference_size=reference_size or resolution,
        max_subjects=max_subjects,
        bad_limit=1.0,
    )

    def read(position: int) -> None:
        record, open_member = source.open_sample(int(data.usable[position % len(data)]))
        for name in record.files:
            open_member(name)

    def decode(position: int) -> None:
        read_sample(*source.open_sample(int(data.usable[position % len(data)])))

    rates = {name: _rate(step, samples) for name, step in (("read", read), ("decode", decode), ("training", data))}
    batches = stream_batches(data, start=0, batch_size=batch_size, workers=workers)
    next(batches)  # the processes have started
    count, began = max(samples // batch_size, 1), time.perf_counter()
    for _ in range(count):
        next(batches)
    rates["batches"] = batch_size * count / (time.perf_counter() - began)
    return rates


def _rate(step: Callable[[int], object], count: int) -> float:
    """Calls in a second of a core's work, after a few that are not timed."""
    for position in range(4):
        step(position)
    began = time.process_time()
    for position in range(count):
        step(position)
    return count / (time.process_time() - began)
