"""Samples out of shards: what is held out, and what stands in for it."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anystory.data.shards.writer import ShardWriter
from anystory.data.storyworld_writer import write_storyworld
from anystory.training.data.caching import cached_set
from anystory.training.data.samples import personal_samples
from anystory.training.data.storyworld import personal_sample
from anystory.training.stages.encoder import EncoderStage
from anystory.training.stages.router import RouterStage
from data.samples import make_sample

from .sdxl_base import recipe_on


def test_without_held_out_samples_training_ones_are_shown_as_they_are(tmp_path: Path) -> None:
    write_storyworld(tmp_path, 3, size=32)
    recipe = recipe_on(tmp_path, level=None, shards=[str(tmp_path)])
    settings: dict[str, Any] = {"reference_size": 32, "min_subjects": 1, "max_subjects": 4}
    with pytest.warns(UserWarning, match="split 'heldout'.*samples that are trained on"):
        shown = personal_samples(recipe, held_out=True, **settings)
    epochs = [{shown(place)["references"].tobytes() for place in places} for places in (range(3), range(3, 6))]
    assert epochs[0] == epochs[1]  # not augmented
    assert len(epochs[0]) == 3
    with pytest.raises(ValueError, match="split 'train'"), warnings.catch_warnings():
        warnings.simplefilter("error")
        settings["min_subjects"] = 4
        personal_samples(recipe, held_out=True, **settings)


def test_held_out_samples_are_shown_where_there_are_some(tmp_path: Path) -> None:
    write_storyworld(tmp_path / "train", 3, size=32)
    write_storyworld(tmp_path / "heldout", 3, size=32, split="heldout")
    recipe = recipe_on(tmp_path, level=None, shards=[str(tmp_path / "train"), str(tmp_path / "heldout")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = personal_samples(recipe, reference_size=32, min_subjects=1, max_subjects=4, held_out=True)
    assert getattr(shown, "split") == "heldout"  # noqa: B009


def test_only_samples_that_say_where_their_subject_is_teach_the_router(tmp_path: Path) -> None:
    """Without a mask a subject counts as being everywhere."""
    with ShardWriter(tmp_path, "set") as writer:
        for number in range(6):
            record, files = make_sample(f"k{number}", subjects=1, caption=f"k{number}")
            if number % 2:
                subject = record.subjects[0]
                files.pop(str(subject.mask))
                record = record.model_copy(update={"subjects": (subject.model_copy(update={"mask": None}),)})
            writer.add(record, files.__getitem__)
    recipe = recipe_on(tmp_path, level=None, shards=[str(tmp_path)])
    settings: dict[str, Any] = {"reference_size": 32, "min_subjects": 1, "max_subjects": 2}
    every, masked = (
        personal_samples(recipe, needs_masks=stage.needs_masks, **settings) for stage in (EncoderStage, RouterStage)
    )
    assert {every(place)["caption"] for place in range(6)} == {f"k{number}" for number in range(6)}
    assert {masked(place)["caption"] for place in range(6)} == {"k0", "k2", "k4"}
    assert not masked(0)["instances"].all()
    assert len(cached_set(recipe, ["router"])) == 3
    with pytest.raises(ValueError, match=r"of 6 samples 3 have no mask, which stage router leaves out.*--stage"):
        cached_set(recipe, ["encoder", "router"])


@pytest.mark.parametrize("held_out", [False, True])
def test_storyworlds_training_is_augmented_and_apart_from_what_is_held_out(tmp_path: Path, held_out: bool) -> None:
    settings: dict[str, Any] = {"reference_size": 32, "min_subjects": 1, "max_subjects": 2}
    recipe = recipe_on(tmp_path)
    fetch = personal_samples(recipe, held_out=held_out, **settings)
    split = "heldout" if held_out else "train"
    plain = partial(personal_sample, level="level1", size=32, seed=0, split=split, augment=False, **settings)
    pairs = [(fetch(place), plain(place)) for place in range(8)]
    assert all(np.array_equal(found["image"], wanted["image"]) for found, wanted in pairs)
    changed = sum(not np.array_equal(found["references"], wanted["references"]) for found, wanted in pairs)
    assert changed == 0 if held_out else changed >= 4
