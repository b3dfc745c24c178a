"""Places: complete pictures, told apart, the same for the same seed."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import skia

from anystory.storyworld.brush import STYLES, Brush
from anystory.storyworld.level import load_level
from anystory.storyworld.places import LIGHTS, PLACES, draw_place
from anystory.storyworld.places.painter import tone
from anystory.storyworld.rng import stream

MAGENTA = (255, 0, 255, 255)


def drawn(place: str, light: str = "day", style: str = "flat", seed: int = 0, size: int = 64) -> np.ndarray:
    """The back layer on magenta, (size, size, 3)."""
    pixels = np.empty((size, size, 4), np.uint8)
    pixels[:] = MAGENTA
    canvas = skia.Surface(pixels, colorType=skia.ColorType.kRGBA_8888_ColorType).getCanvas()
    canvas.scale(size, size)
    draw_place(canvas, Brush(style), place, light, stream(seed, "back"), "back")
    return pixels[..., :3].copy()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("light", LIGHTS)
def test_the_back_layer_covers_the_whole_picture(place: str, light: str) -> None:
    for seed in range(6):
        picture = drawn(place, light, STYLES[seed % 3], seed)
        bare = (picture == MAGENTA[:3]).all(axis=-1)
        assert not bare.any(), f"{bare.sum()} pixels without paint with seed {seed}"


def test_there_are_at_least_ten_places_and_levels_know_them() -> None:
    assert len(PLACES) >= 10
    for level in (1, 2, 3):
        assert set(load_level(level).places) <= set(PLACES)


def test_places_of_level_1_differ_in_their_large_areas_of_colour() -> None:
    for light in LIGHTS:
        small = {}
        for place in load_level(1).places:
            mean = np.mean([drawn(place, light, seed=seed) for seed in range(8)], axis=0)
            small[place] = mean.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3))
        for one, other in combinations(small, 2):
            distance = np.abs(small[one] - small[other]).mean()
            assert distance > 12, f"{one} and {other} look alike at {light}: {distance:.1f} grey levels"


@pytest.mark.parametrize("place", PLACES)
def test_light_changes_a_place_and_the_seed_its_details(place: str) -> None:
    day = drawn(place).astype(int)
    assert np.abs(day - drawn(place, "night")).mean() > 20
    assert np.abs(day - drawn(place, "dusk")).mean() > 5
    assert (day == drawn(place)).all()
    assert (day != drawn(place, seed=1)).any()


@pytest.mark.parametrize("place", PLACES)
def test_a_mask_brush_only_cuts(place: str) -> None:
    size = 64
    pixels = np.full((size, size, 4), 7, np.uint8)
    pixels[..., 3] = 255
    canvas = skia.Surface(pixels, colorType=skia.ColorType.kRGBA_8888_ColorType).getCanvas()
    canvas.scale(size, size)
    draw_place(canvas, Brush.mask(0), place, "night", stream(0, "front"), "front")
    assert set(np.unique(pixels[..., 0])) <= {0, 7}
    assert (pixels[..., 0] == 7).mean() > 0.9
    assert (pixels[..., 0] == 0).any() == (PLACES[place].front is not None)


def test_tone_leaves_day_alone_and_darkens_night() -> None:
    assert tone(0x804020, "day") == 0x804020
    assert sum(tone(0xFFFFFF, "night").to_bytes(3, "big")) < sum(tone(0xFFFFFF, "dusk").to_bytes(3, "big"))


@pytest.mark.parametrize(
    ("place", "light", "layer", "word"),
    [("moonbase", "day", "back", "beach"), ("beach", "noon", "back", "dusk"), ("beach", "day", "middle", "front")],
)
def test_bad_words_are_refused_with_the_good_ones(place: str, light: str, layer: str, word: str) -> None:
    canvas = skia.Surface(8, 8).getCanvas()
    with pytest.raises(ValueError, match=word):
        draw_place(canvas, Brush("flat"), place, light, stream(0), layer)
