"""Data sets as training takes them: an endless stream, each sample a pure function of (seed, position).

Position p of the stream lies in epoch p // len. In an epoch every sample comes once, whatever the number of worker
processes and GPUs, and a resumed run continues with the next one.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from anystory.data.bad_samples import BadSample, BadTally
from anystory.data.pixels import PixelCount, ReadLimits
from anystory.data.reading import OpenMember, read_reference, read_target
from anystory.data.records import SampleRecord, Split
from anystory.data.shards.shard_set import ShardSet
from anystory.data.sources import open_source
from anystory.data.stream.cache import CacheFingerprint, SampleCache
from anystory.data.stream.crops import choose_square, cut_square
from anystory.data.stream.order import EpochOrder
from anystory.data.stream.references import augment_reference, reference_square
from anystory.data.table import SampleSource
from anystory.subjects.arrays import rgba_on_white

__all__ = ["TrainingSet"]

WINDOW = 1000
"""Reads over which the share of bad samples is taken."""

LEAST_SEEN = 100
"""Reads before that share means something."""


class TrainingSet:
    """Samples by stream position; picklable for worker processes.

    Args:
        folders: Folders of shards, or one manifest; see `open_source`. Or what it has opened.
        resolution: Side of the square target, pixels.
        reference_size: Side of the references, pixels.
        max_subjects, min_subjects: Samples with another number of subjects are left out.
        split: Only samples of this split are taken.
        augment: Random crops; a random photo of each subject, rotated, moved and scaled. False: the middle of the
            picture, and the first photo unchanged.
        seed: Of the order and of every draw, ≥ 0.
        bad_limit: Largest share of bad samples among the last `WINDOW` reads of a process.
        flip: Mirror half of the targets. Off by default, as captions and emblems know left from right.
        fixed_crop: The crop (and mirroring) of a sample is the same in every epoch, as for a cache.
        require_masks: Leave out samples whose only subject has no mask: stage 2 learns from masks.
        limits: What makes a sample bad; None takes the defaults.
        cache: Replaces the targets by what encoders made of them; it must have been made from this set.

    Raises:
        ValueError: a setting out of range, a source that cannot be opened, or no sample left.
    """

    def __init__(
        self,
        folders: str | Path | Sequence[str | Path] | SampleSource,
        *,
        resolution: int,
        reference_size: int,
        max_subjects: int,
        min_subjects: int = 1,
        split: Split = "train",
        augment: bool = True,
        seed: int = 0,
        bad_limit: float = 0.05,
        flip: bool = False,
        fixed_crop: bool = False,
        require_masks: bool = False,
        limits: ReadLimits | None = None,
        cache: SampleCache | None = None,
    ) -> None:
        if not 1 <= min_subjects <= max_subjects:
            raise ValueError(f"subjects must be 1 ≤ min_subjects ≤ max_subjects, got {min_subjects} and {max_subjects}")
        for name, value, least in (
            ("resolution", resolution, 1),
            ("reference_size", reference_size, 1),
            ("seed", seed, 0),
        ):
            if value < least:
                raise ValueError(f"`{name}` must be at least {least}, got {value}")
        if not 0 <= bad_limit <= 1:
            raise ValueError(f"`bad_limit` is a share from 0 to 1, got {bad_limit}")
        self.source = open_source(folders) if isinstance(folders, (str, Path, Sequence)) else folders
        self.resolution, self.reference_size = resolution, reference_size
        self.min_subjects, self.max_subjects = min_subjects, max_subjects
        self.split, self.augment, self.seed, self.bad_limit = split, augment, seed, bad_limit
        self.flip, self.fixed_crop, self.require_masks = flip, fixed_crop, require_masks
        self.limits = limits or ReadLimits()
        self.usable = self._usable()
        """Indices in the source of the samples that are taken, ascending."""
        ends = np.searchsorted(self.usable, [group.stop for group in self.source.groups])
        self.order = EpochOrder(np.split(self.usable, ends[:-1]), seed)
        self.tally = BadTally()
        """Of this process's reads."""
        self._recent: deque[bool] = deque(maxlen=WINDOW)
        self._permutations: dict[int, np.ndarray] = {}
        if cache is not None:
            self.check_cache(cache)
        self.cache = cache

    def __len__(self) -> int:
        """Samples in an epoch."""
        return len(self.usable)

    def fingerprint(self, encoders: Mapping[str, str]) -> CacheFingerprint:
        """What a cache of this set is made from.

        Args:
            encoders: SHA-256 of each encoder's weights by its name.

        Raises:
            ValueError: the set is a manifest (its files could change unseen), or its crops vary.
        """
        if not isinstance(self.source, ShardSet):
            raise ValueError(
                "only shards can be cached, as their content is hashed: make some with `anystory data pack`"
            )
        if self.augment and not self.fixed_crop:
            raise ValueError("a cache holds one crop of each sample: give the training set fixed_crop=True")
        shards = {f"{i:06d} {entry.name}": entry.sha256 for i, (_, entry) in enumerate(self.source.shards)}
        names = ("resolution", "min_subjects", "max_subjects", "split", "augment", "seed", "flip", "require_masks")
        transform = {name: getattr(self, name) for name in names}
        transform |= {f"limits.{name}": value for name, value in asdict(self.limits).items()}
        return CacheFingerprint(shards=shards, encoders=dict(encoders), transform=transform)

    def check_cache(self, cache: SampleCache) -> None:
        """Refuse a cache that was not made from this set.

        Raises:
            ValueError: other shards or settings; the message says which.
        """
        cache.check(self.fingerprint(cache.index.fingerprint.encoders))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_permutations": {}}  # large, and quickly made anew

    def __call__(self, position: int) -> dict[str, Any]:
        """The sample at a position of the stream, ≥ 0.

        Returns:
            `image` (S, S, 3) uint8, `instances` (S, S) uint8 with ids 1…n, `caption`, `references` (N, s, s, 3) uint8
            over white, `reference_alpha` (N, s, s) uint8, `present` (N,) bool, `size_condition` (6,) float32, and
            `bad`, int64: how many bad samples were skipped for this one.
            S = resolution, s = reference_size, N = max_subjects; absent subjects are white and empty. A subject that
            is almost entirely outside the crop is absent. With a cache its content replaces `image`.

        Raises:
            ValueError: more than `bad_limit` of the last reads were bad, or all samples are.
        """
        epoch, offset = divmod(position, len(self))
        order = self._permutation(epoch)
        for replaced in range(len(self)):
            index = int(order[(offset + replaced) % len(self)])
            try:
                sample = self._load(index, position)
            except BadSample as error:
                self._count(index, error)
                continue
            self._count(index, None)
            return sample | {"bad": np.int64(replaced)}
        raise ValueError(f"no sample can be used: {self.tally.summary()}")

    def target(self, index: int, position: int) -> tuple[dict[str, Any], tuple[int, ...]]:
        """`image`, `instances`, `caption` and `size_condition` of a sample, and which subjects are in the crop.

        Args:
            index: Of the sample in the source.
            position: In the stream; has no influence with `fixed_crop`.

        Raises:
            BadSample: it cannot be used.
        """
        return self._target(*self.source.open_sample(index), position, PixelCount(self.limits))

    def _target(
        self, record: SampleRecord, open_member: OpenMember, position: int, count: PixelCount
    ) -> tuple[dict[str, Any], tuple[int, ...]]:
        target = read_target(record, open_member, count)
        rng = None
        if self.augment:
            rng = random.Random(f"{self.seed}/{record.key if self.fixed_crop else position}/crop")
        square = choose_square(target, self.resolution, rng)
        flip = self.flip and rng is not None and rng.random() < 0.5
        image, instances, kept, size_condition = cut_square(target, square, self.resolution, flip=flip)
        if len(kept) < self.min_subjects:
            raise BadSample("outside_crop", f"only {len(kept)} of {len(record.subjects)} subjects lie inside the crop")
        caption = record.caption
        return {"image": image, "instances": instances, "caption": caption, "size_condition": size_condition}, kept

    def _load(self, index: int, position: int) -> dict[str, Any]:
        record, open_member = self.source.open_sample(index)
        count = PixelCount(self.limits)
        if self.cache is not None:
            sample, kept = self.cache.row(int(np.searchsorted(self.usable, index)))
            sample["caption"] = record.caption
        else:
            sample, kept = self._target(record, open_member, position, count)
        rng = random.Random(f"{self.seed}/{position}/references")
        side = self.reference_size
        references = np.full((self.max_subjects, side, side, 3), 255, np.uint8)
        alphas = np.zeros((self.max_subjects, side, side), np.uint8)
        for slot, number in enumerate(kept):
            photos = record.subjects[number].references
            photo = photos[rng.randrange(len(photos)) if self.augment else 0]
            square = reference_square(read_reference(photo, open_member, count), side)
            if self.augment:
                square = augment_reference(square, rng)
            references[slot], alphas[slot] = rgba_on_white(square), square[..., 3]
        return sample | {
            "references": references,
            "reference_alpha": alphas,
            "present": np.arange(self.max_subjects) < len(kept),
        }

    def _usable(self) -> np.ndarray:
        table = self.source.table
        fits = (table.subjects >= self.min_subjects) & (table.subjects <= self.max_subjects)
        fits &= table.heldout == (self.split == "heldout")
        if self.require_masks:
            fits &= table.masked
        # Records that cannot be read are of no split: they are bad samples of training.
        fits |= (table.subjects == 0) & (self.split == "train")
        usable = np.flatnonzero(fits)
        if not len(usable):
            raise ValueError(
                f"none of {len(self.source)} samples has {self.min_subjects} to {self.max_subjects} subjects"
                f"{' with masks' if self.require_masks else ''} in split {self.split!r}: there is nothing to train on"
            )
        return usable

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch not in self._permutations:
            if len(self._permutations) > 1:  # reading ahead needs two at the turn of an epoch
                self._permutations.pop(min(self._permutations))
            self._permutations[epoch] = self.order.permutation(epoch)
        return self._permutations[epoch]

    def _count(self, index: int, error: BadSample | None) -> None:
        self.tally.add(self.source.table.keys[index], error)
        self._recent.append(error is not None)
        if len(self._recent) >= LEAST_SEEN and sum(self._recent) > self.bad_limit * len(self._recent):
            raise ValueError(
                f"too many bad samples: {self.tally.summary()}. At most {self.bad_limit:.1%} of the last "
                f"{len(self._recent)} may be bad; `anystory data check` lists all reasons"
            )
