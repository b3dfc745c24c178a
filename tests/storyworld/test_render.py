"""Rendering: pictures, exact masks, boxes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from anystory.storyworld.brush import STYLES
from anystory.storyworld.render import box_of, render_scene
from anystory.storyworld.sampling import sample_scene


def inner(mask: np.ndarray) -> np.ndarray:
    """The mask without its border of two pixels, where antialiasing mixes colours."""
    return cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)


def test_shapes_types_and_numbers() -> None:
    scene = sample_scene(0, 1)
    drawn = render_scene(scene, 64)
    assert drawn.image.shape == (64, 64, 3)
    assert drawn.image.dtype == drawn.instances.dtype == np.uint8
    assert drawn.instances.shape == (64, 64)
    assert drawn.boxes.shape == (len(scene.placements), 4)
    assert set(np.unique(drawn.instances)) == set(range(len(scene.placements) + 1))


def test_the_same_scene_gives_the_same_bytes() -> None:
    first = [render_scene(sample_scene(seed, 3), 64) for seed in range(6)]
    again = [render_scene(sample_scene(seed, 3), 64) for seed in reversed(range(6))][::-1]
    for one, two in zip(first, again, strict=True):
        assert (one.image == two.image).all()
        assert (one.instances == two.instances).all()


@pytest.mark.parametrize("style", STYLES)
def test_the_mask_is_what_stays_when_the_place_changes(style: str) -> None:
    """Two places, the same characters: equal pixels inside the masks, and only there."""
    for seed in range(12):
        scene = replace(sample_scene(seed, 2), style=style, light="day")
        beach = render_scene(replace(scene, place="bedroom"), 160)
        night = render_scene(replace(scene, place="playground", decor="another"), 160)
        assert (beach.instances == night.instances).all(), "neither place covers anybody"
        same = (beach.image == night.image).all(axis=-1)
        assert same[inner(beach.instances > 0)].mean() > 0.995
        outside = ~cv2.dilate((beach.instances > 0).astype(np.uint8), np.ones((9, 9))).astype(bool)
        assert same[outside].mean() < 0.1


def test_the_nearer_character_hides_the_other_in_picture_and_mask() -> None:
    for seed in range(40):
        scene = sample_scene(seed, 1)
        if scene.arrangement != "in_front":
            continue
        both = render_scene(scene, 128)
        near = max(range(2), key=lambda i: scene.placements[i].depth)
        alone = render_scene(replace(scene, placements=(scene.placements[near],), arrangement="alone"), 128)
        assert ((both.instances == near + 1) == (alone.instances == 1)).all()
        inside = inner(alone.instances == 1)
        assert (both.image == alone.image).all(axis=-1)[inside].mean() > 0.99
        far = render_scene(replace(scene, placements=(scene.placements[1 - near],), arrangement="alone"), 128)
        assert (both.instances == 2 - near).sum() < (far.instances == 1).sum()
        return
    pytest.fail("no scene with one in front of another")


def test_things_in_the_foreground_are_cut_out_of_the_mask() -> None:
    scene = sample_scene(1, 1)
    low = tuple(replace(one, y=1.02, x=0.08) for one in scene.placements[:1])
    open_place = render_scene(replace(scene, placements=low, place="bedroom", arrangement="alone"), 128)
    forest = render_scene(replace(scene, placements=low, place="forest", arrangement="alone"), 128)
    hidden = (open_place.instances == 1) & (forest.instances == 0)
    assert hidden.any()
    assert not ((open_place.instances == 0) & (forest.instances == 1)).any()
    changed = (open_place.image != forest.image).any(axis=-1)
    assert changed[hidden].mean() > 0.9


def test_boxes_fit_the_visible_pixels() -> None:
    drawn = render_scene(sample_scene(2, 2), 96)
    for number, (x0, y0, x1, y1) in enumerate(drawn.boxes, 1):
        mask = drawn.instances == number
        assert mask[y0:y1, x0:x1].sum() == mask.sum() > 0
        assert mask[y0].any()
        assert mask[y1 - 1].any()
        assert mask[:, x0].any()
        assert mask[:, x1 - 1].any()
    assert box_of(np.zeros((4, 4), bool)) == (0, 0, 0, 0)


def test_characters_of_level_1_can_be_seen() -> None:
    """Nobody vanishes behind another, and everybody is large in a 64-pixel picture."""
    areas = []
    for seed in range(200):
        drawn = render_scene(sample_scene(seed, 1), 64)
        areas += [(drawn.instances == i + 1).sum() for i in range(len(drawn.boxes))]
    assert min(areas) > 150
    assert np.median(areas) > 400


def test_a_larger_picture_shows_the_same_scene() -> None:
    scene = sample_scene(5, 1)
    small, large = render_scene(scene, 64).image, render_scene(scene, 256).image
    shrunk = cv2.resize(large, (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(int) - small).mean() < 4


def test_level_1_pixels_are_frozen() -> None:
    """The shipped model has learnt these pixels: 8 x 8 mean colours of twelve scenes and their mask areas."""
    stored = json.loads((Path(__file__).parent / "data" / "level1_pixels.json").read_text())
    for seed, record in enumerate(stored):
        drawn = render_scene(sample_scene(seed, 1), 64)
        means = drawn.image.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3)).ravel()
        assert np.abs(means - record["means"]).max() < 1.5, f"scene {seed}"
        areas = [int((drawn.instances == i + 1).sum()) for i in range(len(drawn.boxes))]
        assert areas == pytest.approx(record["areas"], abs=4), f"scene {seed}"


@pytest.mark.parametrize("size", [0, 7, 5000, 64.5])
def test_a_bad_size_is_refused(size: Any) -> None:
    with pytest.raises(ValueError, match="8 to 4096"):
        render_scene(sample_scene(0, 1), size)
