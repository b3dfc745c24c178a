"""Filling a cache, part by part, so that a run that is killed loses one part at most."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from anystory.data.bad import BadSample, BadTally, Reason
from anystory.data.cache import (
    CONDITION,
    INDEX_NAME,
    INSTANCES,
    KEPT,
    OWN_KEYS,
    CacheIndex,
    CachePart,
    Fingerprint,
    SampleCache,
    fingerprint_of,
)
from anystory.data.read_ahead import read_ahead
from anystory.data.training_set import TrainingSet
from anystory.files import atomic_write

__all__ = ["Encode", "hash_weights", "write_cache"]

Encode: TypeAlias = Callable[[list[dict[str, Any]]], Mapping[str, Tensor]]
"""Targets as `TrainingSet.target` gives them to tensors (targets, …) of one shape for all samples, on any device."""


class _Header(BaseModel):
    """What a part says of itself, so that it can be used again before there is an index."""

    fingerprint: Fingerprint
    first: int
    """The set's sample in its row 0."""
    rows: int
    bad: dict[int, tuple[Reason, str]]


def hash_weights(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of a state dict's names, types, shapes and values, in the names' order."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def write_cache(
    folder: str | Path,
    data: TrainingSet,
    encode: Encode,
    *,
    encoders: Mapping[str, str],
    batch_size: int = 8,
    part_rows: int = 512,
    workers: int = 0,
    seen: Callable[[int], None] = lambda _: None,
) -> SampleCache:
    """Encode every usable sample's target and keep the results; goes on where an earlier call was killed.

    Args:
        folder: Where the cache goes.
        data: The set, with `fixed_crop` or without augmentation.
        encode: What is computed for a batch of targets.
        encoders: SHA-256 of the weights of everything that `encode` uses, by name; see `hash_weights`.
        batch_size: Targets that `encode` gets at a time.
        part_rows: Samples in a file.
        workers: Processes that read ahead; 0 reads in this one. The files are the same.
        seen: Is told how many samples are done.

    Raises:
        ValueError: the set cannot be cached, a larger share of it than its `bad_limit` is bad, the folder holds a cache
            of something else, a number is out of range, a reading process ended, or `encode` gives tensors of another
            length or under a name that is taken.
    """
    folder = Path(folder)
    for name, value in (("batch_size", batch_size), ("part_rows", part_rows)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}")
    fingerprint = fingerprint_of(data, encoders)
    if (folder / INDEX_NAME).is_file():
        cache = SampleCache.open(folder, encoders=encoders)
        cache.check(data)
        return cache
    spans = [range(first, min(first + part_rows, len(data))) for first in range(0, len(data), part_rows)]
    paths = [folder / f"part-{number:05d}.safetensors" for number in range(len(spans))]
    written = [_written_part(path, span, fingerprint) for path, span in zip(paths, spans, strict=True)]
    missing = [row for span, part in zip(spans, written, strict=True) if part is None for row in span]
    indices, keys = data.usable[missing].tolist(), data.source.table.keys
    parts, tally = [], BadTally()
    with closing(read_ahead(partial(data.target, position=0), indices, keys, workers, parcel=batch_size)) as targets:
        for path, span, part in zip(paths, spans, written, strict=True):
            if part is None:
                part = _write_part(path, data, span, targets, tally, encode, batch_size, fingerprint)
            else:
                for row in span:
                    error = part.bad.get(row - span.start)
                    _count(tally, data, row, BadSample(*error) if error else None)
            parts.append(part)
            seen(span.stop)
    with atomic_write(folder / INDEX_NAME) as temporary:
        index = CacheIndex(fingerprint=fingerprint, parts=tuple(parts))
        temporary.write_text(index.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return SampleCache(folder, index)


def _count(tally: BadTally, data: TrainingSet, row: int, error: BadSample | None) -> None:
    """Count a sample.

    Raises:
        ValueError: too many of the set are bad, whatever is still to come.
    """
    tally.add(data.source.table.keys[int(data.usable[row])], error)
    if tally.bad > data.bad_limit * len(data):
        raise ValueError(
            f"too many bad samples: {tally.summary()}. At most {data.bad_limit:.1%} of all {len(data)} may be bad; "
            "`anystory data check` tells all kinds"
        )


def _write_part(
    path: Path,
    data: TrainingSet,
    rows: range,
    targets: Iterator[tuple[dict[str, Any], tuple[int, ...]] | BadSample],
    tally: BadTally,
    encode: Encode,
    batch_size: int,
    fingerprint: Fingerprint,
) -> CachePart:
    bad: dict[int, tuple[Reason, str]] = {}
    columns: dict[str, list[Tensor]] = {}
    batch: list[dict[str, Any]] = []

    def flush() -> None:
        if batch:
            for name, tensor in _encoded(encode, batch).items():
                columns.setdefault(name, []).append(tensor)
            batch.clear()

    for row, found in zip(rows, targets, strict=False):  # the rows first: the targets go on with the next part
        if isinstance(found, BadSample):
            bad[row - rows.start] = (found.reason, str(found))
            _count(tally, data, row, found)
            continue
        _count(tally, data, row, None)
        target, kept = found
        padded = np.full(data.max_subjects, -1, np.int16)
        padded[: len(kept)] = kept
        for name, value in ((KEPT, padded), (INSTANCES, target["instances"]), (CONDITION, target["size_condition"])):
            columns.setdefault(name, []).append(torch.from_numpy(value)[None])
        batch.append(target)
        if len(batch) == batch_size:
            flush()
    flush()
    tensors = {name: torch.cat(column).contiguous() for name, column in columns.items()}
    header = _Header(fingerprint=fingerprint, first=rows.start, rows=len(rows), bad=bad)
    with atomic_write(path) as temporary:
        # One entry: safetensors writes several in any order, and equal caches should be equal files.
        save_file(tensors, temporary, {"part": header.model_dump_json()})
    return CachePart(name=path.name, bytes=path.stat().st_size, rows=len(rows), bad=bad)


def _encoded(encode: Encode, batch: list[dict[str, Any]]) -> dict[str, Tensor]:
    found = {}
    for name, tensor in encode(batch).items():
        if name in (*OWN_KEYS, "caption", "references", "reference_alpha", "present", "bad"):
            raise ValueError(
                f"the encoders gave a tensor named {name!r}, which a sample has already: choose another name"
            )
        if len(tensor) != len(batch):
            raise ValueError(f"the encoders gave {len(tensor)} rows of {name!r} for {len(batch)} samples")
        found[name] = tensor.detach().cpu()
    return found


def _written_part(path: Path, rows: range, fingerprint: Fingerprint) -> CachePart | None:
    """A part that an earlier call wrote; None if there is none, or one cut in other places."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            header = _Header.model_validate_json((file.metadata() or {})["part"])
    except (SafetensorError, KeyError, ValidationError):
        return None
    differences = header.fingerprint.differences(fingerprint)
    if differences:
        raise ValueError(
            f"{path.parent} holds the beginning of a cache of something else: {'; '.join(differences[:5])}. "
            "Write into another folder, or remove this one"
        )
    if range(header.first, header.first + header.rows) != rows:
        return None
    return CachePart(name=path.name, bytes=path.stat().st_size, rows=len(rows), bad=header.bad)
