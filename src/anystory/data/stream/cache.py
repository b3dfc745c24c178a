"""Latents and text embeddings of a set's targets on disk: computed once, read in every epoch.

A cache is a folder of `part-00000.safetensors`, … and an `index.json` that says what it was made from. A row holds the
encoders' results with the instance map and SDXL's size condition of the same crop, so the target itself is not decoded
any more. That crop is the same in every epoch; references still vary.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from anystory.data.bad_samples import BadSample, Reason
from anystory.input_files import why_invalid

__all__ = ["CacheFingerprint", "CacheIndex", "CachePart", "SampleCache"]

CACHE_FORMAT = 1
"""Goes up when what is stored changes its meaning: crops, instance maps, size conditions, the files' layout."""

INDEX_NAME = "index.json"
KEPT, INSTANCES, CONDITION = "kept", "instances", "size_condition"
OWN_KEYS = (KEPT, INSTANCES, CONDITION)
"""Tensors that every part has beside the encoders'."""


class _CacheRecord(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CacheFingerprint(_CacheRecord):
    """What a cache was made from: equal fingerprints mean equal rows."""

    format: Literal[1] = CACHE_FORMAT
    shards: dict[str, str]
    """SHA-256 by the shard's number and name."""
    encoders: dict[str, str]
    """SHA-256 of each encoder's weights by its name."""
    transform: dict[str, Any]
    """Settings of the training set that shape the target: resolution, seed, crop, …"""

    def differences(self, other: CacheFingerprint) -> list[str]:
        """What differs, in words: "resolution is 64 there and 32 here"; there is `self`."""
        found = []
        for name in ("encoders", "transform", "shards"):
            there, here = getattr(self, name), getattr(other, name)
            found += [
                f"{_said(name, key)} is {_short(there.get(key))} there and {_short(here.get(key))} here"
                for key in sorted({*there, *here})
                if there.get(key) != here.get(key)
            ]
        return found


class CachePart(_CacheRecord):
    """One file of a cache."""

    name: str
    bytes: int
    rows: int
    """Samples, good or bad."""
    bad: dict[int, tuple[Reason, str]]
    """By row of the part; the file holds no tensors of these."""


class CacheIndex(_CacheRecord):
    """All of a cache; it is written when the last part is."""

    fingerprint: CacheFingerprint
    parts: tuple[CachePart, ...]


class SampleCache:
    """A finished cache. Picklable; keeps no file open.

    cache = SampleCache.open("cache", encoders={"vae": sha256_of_vae})
    data = TrainingSet("shards", resolution=1024, fixed_crop=True, …, cache=cache)
    """

    def __init__(self, folder: Path, index: CacheIndex) -> None:
        self.folder, self.index = folder, index
        self._firsts = list(accumulate((part.rows for part in index.parts[:-1]), initial=0))

    @classmethod
    def open(cls, folder: str | Path, *, encoders: Mapping[str, str] | None = None) -> SampleCache:
        """Open a cache that these encoders made.

        Args:
            folder: Of the cache.
            encoders: SHA-256 of each encoder's weights by its name; None skips this check.

        Raises:
            ValueError: none there, not finished, damaged, or made by other encoders; the message names what differs.
        """
        folder = Path(folder)
        path = folder / INDEX_NAME
        if not path.is_file():
            state = (
                "is not finished: write it again, which resumes it" if list(folder.glob("part-*")) else "does not exist"
            )
            raise ValueError(f"the cache {folder} {state}")
        try:
            index = CacheIndex.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise ValueError(f"{path} is no index of a cache that this version reads: {why_invalid(error)}") from None
        for part in index.parts:
            file = folder / part.name
            if not file.is_file() or file.stat().st_size != part.bytes:
                raise ValueError(
                    f"the cache {folder} is damaged: {part.name} is gone or has another size. Write it again"
                )
        cache = cls(folder, index)
        if encoders is not None:
            cache.check(index.fingerprint.model_copy(update={"encoders": dict(encoders)}))
        return cache

    def check(self, fingerprint: CacheFingerprint) -> None:
        """Refuse a cache that was made from something else.

        Raises:
            ValueError: the fingerprints differ; the message says where.
        """
        found = self.index.fingerprint.differences(fingerprint)
        if found:
            more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
            raise ValueError(
                f"the cache {self.folder} is stale, it was not made from this: {'; '.join(found[:5])}{more}. "
                "Write it into another folder, or remove this one"
            )

    def __len__(self) -> int:
        return sum(part.rows for part in self.index.parts)

    def row(self, row: int) -> tuple[dict[str, Any], tuple[int, ...]]:
        """What replaces the target of a usable sample of the set, and which subjects are in its crop.

        Returns:
            `instances` and `size_condition` as in a sample of `TrainingSet`, arrays; the encoders' results, tensors.

        Raises:
            BadSample: the target could not be used when the cache was made.
        """
        from safetensors import safe_open

        number = bisect_right(self._firsts, row) - 1
        part, within = self.index.parts[number], row - self._firsts[number]
        if within in part.bad:
            raise BadSample(*part.bad[within])
        within -= sum(other < within for other in part.bad)
        with safe_open(self.folder / part.name, framework="pt") as file:
            found = {name: file.get_slice(name)[within] for name in file.keys()}  # noqa: SIM118
        kept = tuple(int(number) for number in found.pop(KEPT) if number >= 0)
        sample = {name: value.numpy() if name in OWN_KEYS else value for name, value in found.items()}
        return sample, kept


def _said(section: str, key: str) -> str:
    return {"encoders": f"the encoder {key}", "shards": f"shard {key}"}.get(section, key)


def _short(value: Any) -> str:
    if value is None:
        return "missing"
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else json.dumps(value)
