"""The vocabulary that judgements share, and the rule of what can be judged at all. No torch here."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from anystory.storyworld.appearance import Appearance
from anystory.storyworld.attribute_classifier.attributes import (
    COARSE,
    COLOUR_OF,
    FINE,
    attribute_values,
    identity_attributes,
)
from anystory.storyworld.attribute_classifier.truth import TrueCharacter, truth
from anystory.storyworld.identity import Identity
from anystory.storyworld.level import load_level
from anystory.storyworld.render import render_scene
from anystory.storyworld.scene import Placement, Scene

FOX = Identity(
    kind="fox",
    primary="orange",
    secondary="blue",
    accent="green",
    pattern="stripes",
    emblem="heart",
    headwear="tophat",
    headwear_colour="purple",
)


def place(identity: Identity = FOX, x: float = 0.5, depth: float = 0.5) -> Placement:
    return Placement(identity=identity, appearance=Appearance(), x=x, y=0.9, height=0.6, depth=depth)


def see(*placements: Placement, size: int = 64) -> list[TrueCharacter]:
    scene = Scene(
        seed=0, level="level1", split="train", decor="x", place="meadow", light="day", style="flat",
        arrangement="apart", placements=placements,
    )  # fmt: skip
    return truth(scene, render_scene(scene, size))


def test_the_vocabulary_covers_every_identity_of_the_level() -> None:
    level = load_level(1)
    values = attribute_values(level)
    assert set(values) == {*COARSE, *FINE, "pose", "view"}
    assert values["emblem"] == ("none", *level.emblems)
    assert set(COLOUR_OF) < set(values)


def test_the_colour_of_nothing_is_empty() -> None:
    said = identity_attributes(FOX)
    assert said["headwear"] == "tophat"
    assert said["headwear_colour"] == "purple"
    assert said["neckwear"] == "none"
    assert said["neckwear_colour"] == ""
    assert said["accent"] == "green"
    assert identity_attributes(replace(FOX, emblem="none"))["accent"] == "", "the accent is the emblem's colour"


def test_all_that_a_lone_character_wears_is_visible() -> None:
    (fox,) = see(place())
    assert fox.attributes["pose"] == "standing"
    assert fox.visible == set(fox.attributes) - {"neckwear_colour", "accessory_colour"}


def test_what_another_character_hides_is_not_judged() -> None:
    bear = replace(FOX, kind="bear", primary="red", secondary="white", headwear="none", headwear_colour="")
    behind, front = see(place(depth=0.2), place(bear, x=0.52, depth=0.9))
    assert "emblem" not in behind.visible
    assert "accent" not in behind.visible
    assert "headwear_colour" in behind.visible, "the hat stands out above"
    assert {"emblem", "accent", "kind", "primary"} <= front.visible


def test_nothing_of_a_character_outside_the_picture_is_judged() -> None:
    (fox,) = see(place(x=-3.0))
    assert fox.visible == frozenset()


def test_what_lies_below_the_picture_is_not_judged() -> None:
    """The head alone is in the picture; a fox's stripes reach up to it."""
    (fox,) = see(replace(place(), y=1.35))
    assert {"headwear", "headwear_colour", "kind", "pattern"} <= fox.visible
    assert not {"emblem", "accent", "neckwear"} & fox.visible


def test_the_rule_counts_pixels_in_proportion_to_the_picture() -> None:
    small, large = see(place(), size=64)[0], see(place(), size=128)[0]
    assert small.visible == large.visible


def test_an_unknown_level_is_refused() -> None:
    scene = replace(
        Scene(
            seed=0, level="level1", split="train", decor="x", place="meadow", light="day", style="flat",
            arrangement="apart", placements=(place(),),
        ),
        level="of another world",
    )  # fmt: skip
    with pytest.raises(ValueError, match="no level 'of another world'"):
        truth(scene, render_scene(scene, 64))


def test_the_picture_itself_is_left_alone() -> None:
    scene = Scene(
        seed=0, level="level1", split="train", decor="x", place="meadow", light="day", style="flat",
        arrangement="apart", placements=(place(),),
    )  # fmt: skip
    drawn = render_scene(scene, 64)
    before = drawn.image.copy()
    truth(scene, drawn)
    assert np.array_equal(before, drawn.image)


def test_the_truth_needs_no_torch() -> None:
    code = "import sys, anystory.storyworld.attribute_classifier.truth; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
