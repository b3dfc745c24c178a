"""StoryWorld pairs as shards, drawn by all cores."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from anystory.data.pixels import encode_png
from anystory.data.records import SampleRecord, SampleReference, SampleSubject, Split
from anystory.data.shards.writer import ShardWriter
from anystory.process_pool import in_order
from anystory.storyworld import dataset
from anystory.storyworld.level import Level, load_level

__all__ = ["draw_sample", "write_storyworld"]


def draw_sample(index: int, *, level: Level, size: int, split: Split) -> tuple[SampleRecord, dict[str, bytes]]:
    """Pair `index` of a level as a record and its files' contents."""
    pair = dataset.pairs(index, level.max_characters, level=level, split=split, size=size)
    files = {"target.png": encode_png(pair["image"])}
    subjects = []
    for i, kind in enumerate(pair["kinds"]):
        mask, photo = f"mask{i}.png", f"photo{i}.png"
        files[mask] = encode_png(pair["instances"] == i + 1)
        files[photo] = encode_png(pair["references"][i])
        subjects.append(SampleSubject(name=kind, mask=mask, references=(SampleReference(image=photo),)))
    record = SampleRecord(
        key=f"{_stem(level, split, size)}-{index:08d}",
        image="target.png",
        caption=pair["caption"],
        subjects=tuple(subjects),
        source=f"StoryWorld {level.name}",
        licence="Apache-2.0",
        split=split,
    )
    return record, files


def write_storyworld(
    folder: str | Path,
    count: int,
    *,
    level: str | int = 1,
    size: int = 64,
    split: Split = "train",
    start: int = 0,
    workers: int = 0,
    max_samples: int = 10_000,
    written: Callable[[int], None] = lambda _: None,
) -> int:
    """Write pairs `start` … `start + count − 1` into a folder of shards; existing ones are not drawn again.

    The files do not depend on `workers`.

    Args:
        folder: Where the shards go.
        count: Samples, ≥ 1.
        level: 1, 2, 3 or a level's JSON file.
        size: Height and width of targets and references, pixels.
        split: Which identities appear.
        start: The first pair's number.
        workers: Drawing processes; 0 draws in this one.
        max_samples: In a shard.
        written: Called with the number of pairs that are there.

    Returns:
        How many were drawn.

    Raises:
        ValueError: no such level, or a number out of range.
    """
    for name, value, least in (("n", count, 1), ("size", size, 8), ("start", start, 0), ("workers", workers, 0)):
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}, got {value}")
    loaded = load_level(level)
    stem = _stem(loaded, split, size)
    with ShardWriter(folder, stem, max_samples=max_samples) as writer:
        wanted = [i for i in range(start, start + count) if f"{stem}-{i:08d}" not in writer]
        done = count - len(wanted)
        written(done)
        drawer = partial(partial, draw_sample, level=loaded, size=size, split=split)
        with closing(in_order(drawer, wanted, workers if wanted else 0, chunk=32)) as drawn:
            for record, files in drawn:
                writer.add(record, files.__getitem__)
                done += 1
                written(done)
    return len(wanted)


def _stem(level: Level, split: Split, size: int) -> str:
    return f"{re.sub(r'[^A-Za-z0-9_-]', '-', level.name)}-{split}-{size}"
