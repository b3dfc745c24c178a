"""Filling a cache, part by part, so that a run that is killed loses one part at most."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from anystory.data.bad import BadSample, Reason
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
        seen: Is told how many samples are done.

    Raises:
        ValueError: the set cannot be cached, the folder holds a cache of something else, a number is out of range, or
            `encode` gives tensors of another length or under a name that is taken.
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
    parts = []
    for number, first in enumerate(range(0, len(data), part_rows)):
        path = folder / f"part-{number:05d}.safetensors"
        span = range(first, min(first + part_rows, len(data)))
        part = _written_part(path, span, fingerprint)
        if part is None:
            part = _write_part(path, data, span, encode, batch_size, fingerprint)
        parts.append(part)
        seen(span.stop)
    with atomic_write(folder / INDEX_NAME) as temporary:
        index = CacheIndex(fingerprint=fingerprint, parts=tuple(parts))
        temporary.write_text(index.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return SampleCache(folder, index)


def _write_part(
    path: Path, data: TrainingSet, rows: range, encode: Encode, batch_size: int, fingerprint: Fingerprint
) -> CachePart:
    bad: dict[int, tuple[Reason, str]] = {}
    columns: dict[str, list[Tensor]] = {}
    batch: list[dict[str, Any]] = []

    def flush() -> None:
        if batch:
            for name, tensor in _encoded(encode, batch).items():
                columns.setdefault(name, []).append(tensor)
            batch.clear()

    for row in rows:
        try:
            target, kept = data.target(int(data.usable[row]), 0)
        except BadSample as error:
            bad[row - rows.start] = (error.reason, str(error))
            continue
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
