"""Where the personalised stages' samples come from: StoryWorld, or folders of shards."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

from anystory.data.records import Split
from anystory.data.sources import open_source
from anystory.data.stream.cache import SampleCache
from anystory.data.stream.training_set import TrainingSet
from anystory.training.data import storyworld
from anystory.training.data.stream import Sample
from anystory.training.recipe import Recipe


def check_samples(recipe: Recipe) -> None:
    """Raises ValueError where a recipe does not say what samples its stages see."""
    if recipe.level is None and not recipe.shards:
        raise ValueError(
            f"recipe {recipe.name!r} names no samples: give --data FOLDER (shards that `anystory data build` wrote) or "
            "--data LEVEL (a level of StoryWorld)"
        )
    if recipe.cache is not None and not recipe.shards:
        raise ValueError(
            f"recipe {recipe.name!r} names a cache and no shards that it was made from: give --data FOLDER, or leave "
            "out the cache"
        )


def world_samples(recipe: Recipe, draw: Callable[..., Sample]) -> Callable[[int], Sample]:
    """A picklable function from a stream position to what `draw`, of `storyworld`, makes of the recipe's world."""
    assert recipe.level is not None  # a recipe with a stage that learns on it has one
    return partial(draw, level=recipe.level, size=recipe.resolution, seed=recipe.seed)


def personal_samples(
    recipe: Recipe,
    *,
    reference_size: int,
    min_subjects: int,
    max_subjects: int,
    targets: int = 1,
    held_out: bool = False,
    needs_masks: bool = False,
    cache: SampleCache | None = None,
) -> Callable[[int], Sample]:
    """A picklable function from a stream position to a sample, with the keys of `storyworld.personal_sample`.

    Args:
        recipe: says which world or which shards, and the pictures' size.
        reference_size: side of the references, pixels.
        min_subjects, max_subjects: subjects per sample.
        targets: pictures per sample, all with the same subjects.
        held_out: samples that training does not see, their references not augmented.
        needs_masks: leave out samples that do not say where their subject is.
        cache: what encoders made of the shards' targets, in their place; each sample then has one crop.

    Raises:
        ValueError: the recipe names no samples, its shards cannot be read, or the cache was made from others.
    """
    check_samples(recipe)
    if recipe.shards and targets > 1:
        raise ValueError(
            f"targets {targets} needs StoryWorld, which draws the same subjects again: shards have one target a sample"
        )
    if recipe.shards:
        return shard_samples(
            recipe,
            reference_size=reference_size,
            min_subjects=min_subjects,
            max_subjects=max_subjects,
            held_out=held_out,
            needs_masks=needs_masks,
            fixed_crop=cache is not None,
            cache=cache,
        )
    assert recipe.level is not None
    return partial(
        storyworld.personal_sample,
        level=recipe.level,
        size=recipe.resolution,
        reference_size=reference_size,
        seed=recipe.seed,
        min_subjects=min_subjects,
        max_subjects=max_subjects,
        targets=targets,
        split="heldout" if held_out else "train",
        augment=not held_out,
    )


def shard_samples(
    recipe: Recipe,
    *,
    reference_size: int,
    min_subjects: int,
    max_subjects: int,
    held_out: bool = False,
    needs_masks: bool = False,
    fixed_crop: bool = False,
    cache: SampleCache | None = None,
) -> TrainingSet:
    """The recipe's shards; arguments as for `personal_samples`. `fixed_crop`: one crop of a sample in every epoch.

    Where no sample is held out, those that are trained on stand in for them, with a warning: a few photos of few
    subjects are no reason to stop.

    Raises:
        ValueError: the shards cannot be read, or the cache was made from others.
    """

    source = open_source(recipe.shards)  # once: it reads the index of all samples

    def open_set(split: Split, require_masks: bool, cache: SampleCache | None) -> TrainingSet:
        return TrainingSet(
            source,
            resolution=recipe.resolution,
            reference_size=reference_size,
            min_subjects=min_subjects,
            max_subjects=max_subjects,
            split=split,
            augment=not held_out,
            seed=recipe.seed,
            fixed_crop=fixed_crop,
            require_masks=require_masks,
            cache=cache,
        )

    def samples(split: Split) -> TrainingSet:
        found = open_set(split, False, None)
        # Required only where it leaves samples out: else both stages have the same samples, and a cache serves both.
        table, taken = source.table, found.usable
        maskless = bool((~table.masked[taken] & (table.subjects[taken] > 0)).any())
        require = needs_masks and maskless
        return open_set(split, require, cache) if require or cache is not None else found

    if not held_out:
        return samples("train")
    try:
        return samples("heldout")
    except ValueError as error:
        found = samples("train")  # which says what else may be wrong
        warnings.warn(f"{error}; validation and pictures show samples that are trained on", stacklevel=2)
        return found
