"""Filling a cache part by part, so that a run that is killed loses one part at most."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open

from anystory.data.bad_samples import BadSample, BadTally, Reason
from anystory.data.sources import read_ahead
from anystory.data.stream.cache import (
    CONDITION,
    INDEX_NAME,
    INSTANCES,
    KEPT,
    OWN_KEYS,
    CacheFingerprint,
    CacheIndex,
    CachePart,
    SampleCache,
)
from anystory.data.stream.training_set import TrainingSet
from anystory.files import atomic_write

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Encode", "hash_weights", "write_cache"]

Encode: TypeAlias = "Callable[[list[dict[str, Any]]], Mapping[str, Tensor]]"
"""Targets from `TrainingSet.target` to tensors (targets, …) of one shape for all samples, on any device."""

_TAKEN = (*OWN_KEYS, "caption", "references", "reference_alpha", "present", "bad")
"""Names in a training sample that the encoders' tensors must not have."""


class _Header(BaseModel):
    """What a part says about itself, so that a resumed run can use it before there is an index."""

    fingerprint: CacheFingerprint
    first: int
    """The set's sample in its row 0."""
    rows: int
    bad: dict[int, tuple[Reason, str]]


def hash_weights(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of a state dict's names, types, shapes and values, in the names' order."""
    import torch

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
    """Encode every usable sample's target and keep the results. A call that was killed resumes.

    Args:
        folder: Where the cache goes.
        data: The set, with `fixed_crop` or without augmentation.
        encode: Encodes a batch of targets.
        encoders: SHA-256 of the weights of everything that `encode` uses, by name; see `hash_weights`.
        batch_size: Targets that `encode` gets at a time.
        part_rows: Samples in a file.
        workers: Processes that read ahead; 0 reads in this one. The files are the same.
        seen: Called with the number of samples that are done.

    Raises:
        ValueError: the set cannot be cached, more than its `bad_limit` of it is bad, the folder holds another cache, a
            number is out of range, a reading process died, or `encode` returns tensors of another length or under a
            name that is taken.
    """
    folder = Path(folder)
    for name, value in (("batch_size", batch_size), ("part_rows", part_rows)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}")
    fingerprint = data.fingerprint(encoders)
    if (folder / INDEX_NAME).is_file():
        cache = SampleCache.open(folder, encoders=encoders)
        cache.check(fingerprint)
        return cache
    spans = [range(first, min(first + part_rows, len(data))) for first in range(0, len(data), part_rows)]
    paths = [folder / f"part-{number:05d}.safetensors" for number in range(len(spans))]
    found = [_written_part(path, span, fingerprint) for path, span in zip(paths, spans, strict=True)]
    missing = [row for span, part in zip(spans, found, strict=True) if part is None for row in span]
    indices, keys = data.usable[missing].tolist(), data.source.table.keys
    parts, count = [], _Counter(data)
    with closing(read_ahead(partial(data.target, position=0), indices, keys, workers, chunk=batch_size)) as targets:
        for path, span, part in zip(paths, spans, found, strict=True):
            if part is None:
                bad, tensors = _encoded_rows(span, targets, count, encode, batch_size)
                part = _write_part(
                    path, _Header(fingerprint=fingerprint, first=span.start, rows=len(span), bad=bad), tensors
                )
            else:
                for row in span:
                    count(row, BadSample(*part.bad[row - span.start]) if row - span.start in part.bad else None)
            parts.append(part)
            seen(span.stop)
    index = CacheIndex(fingerprint=fingerprint, parts=tuple(parts))
    with atomic_write(folder / INDEX_NAME) as temporary:
        temporary.write_text(index.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return SampleCache(folder, index)


class _Counter:
    """Counts bad samples, and stops the writing when there are too many."""

    def __init__(self, data: TrainingSet) -> None:
        self.data, self.tally = data, BadTally()

    def __call__(self, row: int, error: BadSample | None) -> None:
        """Count a sample of the set.

        Raises:
            ValueError: too many of the set are bad, whatever is still to come.
        """
        data, tally = self.data, self.tally
        tally.add(data.source.table.keys[int(data.usable[row])], error)
        if tally.bad > data.bad_limit * len(data):
            raise ValueError(
                f"too many bad samples: {tally.summary()}. At most {data.bad_limit:.1%} of all {len(data)} may be bad; "
                "`anystory data check` lists all reasons"
            )


def _encoded_rows(
    rows: range,
    targets: Iterator[tuple[dict[str, Any], tuple[int, ...]] | BadSample],
    count: _Counter,
    encode: Encode,
    batch_size: int,
) -> tuple[dict[int, tuple[Reason, str]], dict[str, Tensor]]:
    """The bad samples of a part, and the tensors of the others: (good rows, …) each."""
    import torch

    bad: dict[int, tuple[Reason, str]] = {}
    columns: dict[str, list[Tensor]] = {}
    batch: list[dict[str, Any]] = []

    def flush() -> None:
        for name, tensor in _encoded(encode, batch).items() if batch else ():
            columns.setdefault(name, []).append(tensor)
        batch.clear()

    for row, found in zip(rows, targets, strict=False):  # the rows first: the next part needs the next target
        if isinstance(found, BadSample):
            bad[row - rows.start] = (found.reason, str(found))
            count(row, found)
            continue
        count(row, None)
        target, kept = found
        padded = np.full(count.data.max_subjects, -1, np.int16)
        padded[: len(kept)] = kept
        for name, value in ((KEPT, padded), (INSTANCES, target["instances"]), (CONDITION, target["size_condition"])):
            columns.setdefault(name, []).append(torch.from_numpy(value)[None])
        batch.append(target)
        if len(batch) == batch_size:
            flush()
    flush()
    return bad, {name: torch.cat(column).contiguous() for name, column in columns.items()}


def _encoded(encode: Encode, batch: list[dict[str, Any]]) -> dict[str, Tensor]:
    found = encode(batch)
    for name, tensor in found.items():
        if name in _TAKEN:
            raise ValueError(f"the encoders returned a tensor named {name!r}, which a sample has already: rename it")
        if len(tensor) != len(batch):
            raise ValueError(f"the encoders returned {len(tensor)} rows of {name!r} for {len(batch)} samples")
    return {name: tensor.detach().cpu() for name, tensor in found.items()}


def _write_part(path: Path, header: _Header, tensors: dict[str, Tensor]) -> CachePart:
    from safetensors.torch import save_file

    with atomic_write(path) as temporary:
        # One entry: safetensors writes several in any order, and equal caches should be equal files.
        save_file(tensors, temporary, {"part": header.model_dump_json()})
    return _part(path, header)


def _part(path: Path, header: _Header) -> CachePart:
    return CachePart(name=path.name, bytes=path.stat().st_size, rows=header.rows, bad=header.bad)


def _written_part(path: Path, rows: range, fingerprint: CacheFingerprint) -> CachePart | None:
    """A part that an earlier call wrote; None if there is none, or one with other rows."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            header = _Header.model_validate_json((file.metadata() or {})["part"])
    except KeyError:
        raise ValueError(
            f"{path} is no part of a cache, and would be overwritten: move it away, or write into another folder"
        ) from None
    except (SafetensorError, ValidationError):
        return None
    differences = header.fingerprint.differences(fingerprint)
    if differences:
        raise ValueError(
            f"{path.parent} holds the beginning of another cache: {'; '.join(differences[:5])}. Write into another "
            "folder, or remove this one"
        )
    return _part(path, header) if range(header.first, header.first + header.rows) == rows else None
