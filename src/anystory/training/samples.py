"""Where the personalised stages' samples come from: StoryWorld, or folders of shards."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from . import data
from .recipe import Recipe
from .stream import Sample


def check_samples(recipe: Recipe) -> None:
    """Raises ValueError where a recipe does not say what samples its stages see."""
    if recipe.level is None and not recipe.shards:
        raise ValueError(
            f"recipe {recipe.name!r} names no samples: give --data FOLDER (shards that `anystory data build` wrote) or "
            "--data LEVEL (a level of StoryWorld)"
        )


def personal_samples(
    recipe: Recipe, *, reference_size: int, min_subjects: int, max_subjects: int, held_out: bool = False
) -> Callable[[int], Sample]:
    """A picklable function from a stream position to a sample, with the keys of `data.personal_sample`.

    Args:
        recipe: says which world or which shards, and the pictures' size.
        reference_size: side of the references, pixels.
        min_subjects, max_subjects: subjects per sample.
        held_out: samples that training does not see, their references not augmented.

    Raises:
        ValueError: the recipe names no samples, or its shards cannot be read.
    """
    if recipe.shards:
        from anystory.data.training_set import TrainingSet

        return TrainingSet(
            recipe.shards,
            resolution=recipe.resolution,
            reference_size=reference_size,
            min_subjects=min_subjects,
            max_subjects=max_subjects,
            split="heldout" if held_out else "train",
            augment=not held_out,
            seed=recipe.seed,
        )
    check_samples(recipe)
    assert recipe.level is not None
    return partial(
        data.personal_sample,
        level=recipe.level,
        size=recipe.resolution,
        reference_size=reference_size,
        seed=recipe.seed,
        min_subjects=min_subjects,
        max_subjects=max_subjects,
        split="heldout" if held_out else "train",
        augment=not held_out,
    )
