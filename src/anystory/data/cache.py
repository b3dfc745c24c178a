"""What frozen encoders make of a set's targets, kept on disk: computed once, read in every epoch.

A cache is a folder of `part-00000.safetensors`, … and an `index.json` that says what it was made from. A row holds what
the encoders gave (latents, text embeddings, …) together with the instance map and SDXL's size condition of the same
crop, so the target itself is not decoded any more. That crop is the same in every epoch; references vary as ever.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from anystory.data.bad import BadSample, Reason
from anystory.data.records import why_invalid
from anystory.data.shards import ShardSet

if TYPE_CHECKING:
    from anystory.data.training_set import TrainingSet

__all__ = ["CACHE_FORMAT", "CacheIndex", "CachePart", "Fingerprint", "SampleCache", "fingerprint_of"]

CACHE_FORMAT = 1
"""Goes up when what is stored changes its meaning: crops, instance maps, size conditions, the files' layout."""

INDEX_NAME = "index.json"
KEPT, INSTANCES, CONDITION = "kept", "instances", "size_condition"
OWN_KEYS = (KEPT, INSTANCES, CONDITION)
"""Tensors that every part has beside the encoders'."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fingerprint(_Model):
    """What a cache was made from; two that are equal give equal rows."""

    format: int = CACHE_FORMAT
    shards: dict[str, str]
    """SHA-256 by the shard's number and name."""
    encoders: dict[str, str]
    """SHA-256 of each encoder's weights by its name."""
    transform: dict[str, Any]
    """Settings of the training set that shape the target: resolution, seed, crop, …"""

    def differences(self, other: Fingerprint) -> list[str]:
        """What differs, in words: "resolution is 64 there and 32 here"; `self` is there."""
        found = []
        if self.format != other.format:
            found.append(f"its format is {self.format}, this version's {other.format}")
        for name in ("encoders", "transform", "shards"):
            there, here = getattr(self, name), getattr(other, name)
            found += [
                f"{_said(name, key)} is {_short(there.get(key))} there and {_short(here.get(key))} here"
                for key in sorted({*there, *here})
                if there.get(key) != here.get(key)
            ]
        return found


class CachePart(_Model):
    """One file of a cache."""

    name: str
    bytes: int
    rows: int
    """Samples, good or bad."""
    bad: dict[int, tuple[Reason, str]]
    """By row of the part; the file holds no tensors of these."""


class CacheIndex(_Model):
    """All of a cache; it is written when the last part is."""

    format: Literal[1] = CACHE_FORMAT
    fingerprint: Fingerprint
    parts: tuple[CachePart, ...]


def fingerprint_of(data: TrainingSet, encoders: Mapping[str, str]) -> Fingerprint:
    """What a cache of this set would be made from.

    Args:
        data: The set.
        encoders: SHA-256 of each encoder's weights by its name.

    Raises:
        ValueError: the set is a manifest (its files could change unseen), or its crops vary.
    """
    if not isinstance(data.source, ShardSet):
        raise ValueError("only shards can be cached, for their content is hashed: make some with `anystory data pack`")
    if data.augment and not data.fixed_crop:
        raise ValueError("a cache holds one crop of each sample: give the training set fixed_crop=True")
    shards = {f"{i:06d} {entry.name}": entry.sha256 for i, (_, entry) in enumerate(data.source.shards)}
    names = ("resolution", "min_subjects", "max_subjects", "split", "augment", "seed", "flip", "require_masks")
    transform = {name: getattr(data, name) for name in names}
    transform |= {f"limits.{name}": getattr(data.limits, name) for name in data.limits.__dataclass_fields__}
    return Fingerprint(shards=shards, encoders=dict(encoders), transform=transform)


class SampleCache:
    """A finished cache. Picklable; keeps no file open.

    cache = SampleCache.open("cache", encoders={"vae": sha256_of_vae})
    data = TrainingSet("shards", resolution=1024, fixed_crop=True, …, cache=cache)
    """

    def __init__(self, folder: Path, index: CacheIndex) -> None:
        self.folder, self.index = folder, index
        self._firsts: list[int] = []
        count = 0
        for part in index.parts:
            self._firsts.append(count)
            count += part.rows
        self._count = count

    @classmethod
    def open(cls, folder: str | Path, *, encoders: Mapping[str, str] | None = None) -> SampleCache:
        """Open a cache that these encoders made.

        Args:
            folder: Of the cache.
            encoders: SHA-256 of each encoder's weights by its name; None does not ask who made it.

        Raises:
            ValueError: none there, not finished, damaged, or made by other encoders; the message names what differs.
        """
        folder = Path(folder)
        path = folder / INDEX_NAME
        if not path.is_file():
            state = "is not finished: write it again, it goes on" if list(folder.glob("part-*")) else "does not exist"
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
            cache._refuse_other(index.fingerprint.model_copy(update={"encoders": dict(encoders)}))
        return cache

    def __len__(self) -> int:
        return self._count

    def check(self, data: TrainingSet) -> None:
        """Refuse a set that the cache was not made from.

        Raises:
            ValueError: other shards or settings; the message names what differs.
        """
        self._refuse_other(fingerprint_of(data, self.index.fingerprint.encoders))

    def row(self, row: int) -> tuple[dict[str, Any], tuple[int, ...]]:
        """A usable sample of the set by its number: what stands for its target, and which subjects are in the crop.

        Returns:
            `instances` and `size_condition` as in `TrainingSet.fetch`, arrays; what the encoders gave, tensors.

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

    def _refuse_other(self, wanted: Fingerprint) -> None:
        found = self.index.fingerprint.differences(wanted)
        if found:
            more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
            raise ValueError(
                f"the cache {self.folder} is stale, it was not made from this: {'; '.join(found[:5])}{more}. "
                "Write it into another folder, or remove this one"
            )


def _said(section: str, key: str) -> str:
    return {"encoders": f"the encoder {key}", "shards": f"shard {key}"}.get(section, key)


def _short(value: Any) -> str:
    if value is None:
        return "missing"
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else json.dumps(value)
