"""Samples: complete, typed, and the same whoever asks for them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from anystory.storyworld import dataset
from anystory.storyworld.level import load_level
from anystory.storyworld.render import render_scene
from anystory.storyworld.sampling import sample_group, sample_scene


def same(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    return one.keys() == two.keys() and all(np.array_equal(one[key], two[key]) for key in one)


def test_a_scene_sample_is_complete() -> None:
    sample = dataset.scenes(3, size=48)
    assert sample["image"].shape == (48, 48, 3)
    assert sample["instances"].shape == (48, 48)
    assert sample["instances"].max() == len(sample["kinds"])
    assert all(kind in sample["caption"] for kind in sample["kinds"])


def test_a_pair_sample_has_one_reference_for_each_character() -> None:
    counts = set()
    for index in range(12):
        sample = dataset.pairs(index, 3, size=32, reference_size=40)
        references, count = sample["references"], sample["count"]
        counts.add(count)
        assert references.shape == (3, 40, 40, 4)
        assert references.dtype == np.uint8
        assert count == len(sample["kinds"]) == sample["instances"].max()
        assert (references[:count, ..., 3].reshape(count, -1).mean(axis=1) > 30).all()
        assert not references[count:].any()
    assert counts == {1, 2}


def test_a_groups_first_picture_is_the_pair_and_ids_name_the_same_character_in_all() -> None:
    moved = 0
    for index in range(12):
        pair, group = dataset.pairs(index, size=32), dataset.groups(index, 3, size=32)
        assert np.array_equal(group["images"][0], pair["image"])
        assert np.array_equal(group["instances"][0], pair["instances"])
        assert np.array_equal(group["references"], pair["references"])
        assert (group["captions"][0], group["count"]) == (pair["caption"], pair["count"])
        assert len({image.tobytes() for image in group["images"]}) == 3
        drawn = sample_group(index, 3).scenes
        order = [placement.identity for placement in drawn[0].placements]
        for scene, instances in zip(drawn, group["instances"], strict=True):
            # Drawn alone, a character covers where its id says it is seen.
            for placement in scene.placements:
                alone = render_scene(replace(scene, placements=(placement,)), 32).instances > 0
                mine = instances == 1 + order.index(placement.identity)
                assert not (mine & ~alone).any()
            moved += [p.identity for p in scene.placements] != order
    assert moved, "in no picture did anybody stand elsewhere"


def test_a_level_says_how_many_characters_its_scenes_have() -> None:
    level = replace(load_level(1), max_characters=3, character_counts=(0.0, 1.0, 1.0))
    counts = Counter(len(sample_scene(seed, level).placements) for seed in range(60))
    assert set(counts) == {2, 3}
    assert load_level("level1-three").character_counts == (30, 55, 15)


def test_a_reference_shows_its_character() -> None:
    """The main colours of reference i are nearer to character i of the picture than to the other one."""
    right = wrong = 0
    for index in range(60):
        sample = dataset.pairs(index, 2, size=64)
        if sample["count"] < 2:
            continue
        seen = [sample["image"][sample["instances"] == i].mean(axis=0) for i in (1, 2)]
        told = [one[..., :3][one[..., 3] > 250].mean(axis=0) for one in sample["references"]]
        straight = sum(np.abs(seen[i] - told[i]).sum() for i in (0, 1))
        crossed = sum(np.abs(seen[i] - told[1 - i]).sum() for i in (0, 1))
        right, wrong = right + (straight < crossed), wrong + (straight >= crossed)
    assert right > 9 * wrong


def test_a_description_names_the_kind() -> None:
    for index in range(10):
        sample = dataset.descriptions(index, size=32)
        assert sample["reference"].shape == (32, 32, 4)
        assert sample["kind"] in sample["text"]


def test_samples_do_not_depend_on_order() -> None:
    for draw in (dataset.scenes, dataset.pairs, dataset.descriptions):
        forwards = [draw(i, size=32) for i in range(5)]
        backwards = [draw(i, size=32) for i in reversed(range(5))][::-1]
        assert all(same(one, two) for one, two in zip(forwards, backwards, strict=True))


def test_splits_and_indices_differ() -> None:
    assert not same(dataset.scenes(0, size=32), dataset.scenes(1, size=32))
    assert not same(dataset.scenes(0, size=32), dataset.scenes(0, size=32, split="heldout"))


def test_too_few_places_for_references_are_refused() -> None:
    with pytest.raises(ValueError, match="n_max must be at least 4"):
        dataset.pairs(0, 2, level=3)
    with pytest.raises(ValueError, match="heldout"):
        dataset.descriptions(0, split="validation")


def test_the_world_does_not_need_torch() -> None:
    code = "import sys; from anystory.storyworld import dataset, sheets; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "False"
