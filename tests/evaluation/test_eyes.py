"""Eyes: the template finds those of true faces, of every kind, and none where there are none."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from anystory.evaluation.storyworld.cases import Case, draw_cases, instance_masks
from anystory.evaluation.storyworld.eyes import eyes_scores, has_two_eyes
from anystory.storyworld.attribute_classifier.classifier import CharacterReading, Reading
from anystory.storyworld.characters.heads.draw import eyes_glow
from anystory.storyworld.render import RenderedScene, render_scene
from anystory.storyworld.sampling import sample_group
from anystory.storyworld.scene import Scene

SIDE = 128


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """Scenes with one character each."""
    found: list[Scene] = []
    for index in range(300):
        scene = sample_group(index, 1).scenes[0]
        if len(scene.placements) == 1:
            found.append(scene)
    return found


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return list(draw_cases(4, level=1, split="train", size=64, picture=SIDE))


def looking(scene: Scene, **appearance: str) -> RenderedScene:
    """The scene with its character in another appearance, without anything worn."""
    one = scene.placements[0]
    bare = replace(one.identity, headwear="none", accessory="none", headwear_colour="", accessory_colour="")
    changed = replace(one, identity=bare, appearance=replace(one.appearance, **appearance))
    return render_scene(replace(scene, placements=(changed,)), SIDE)


def found_in(drawn: RenderedScene, kind: str) -> bool:
    return has_two_eyes(drawn.image, drawn.instances == 1, eyes_glow(kind))


@pytest.mark.parametrize("kind", ["fox", "bear", "rabbit", "robot", "penguin", "frog"])
def test_true_faces_have_two_eyes_unless_they_are_turned_away(scenes, kind):
    some = [scene for scene in scenes if scene.placements[0].identity.kind == kind][:10]
    for view in ("front", "left"):
        awake = [found_in(looking(scene, view=view, expression="happy"), kind) for scene in some]
        assert np.mean(awake) >= 0.9, (view, awake)
    behind = [found_in(looking(scene, view="back"), kind) for scene in some]
    assert np.mean(behind) <= 0.1


def test_closed_and_smeared_eyes_are_none(scenes):
    foxes = [scene for scene in scenes if scene.placements[0].identity.kind == "fox"][:20]
    asleep = [found_in(looking(scene, view="front", expression="sleepy"), "fox") for scene in foxes]
    assert np.mean(asleep) <= 0.2, "some are pale"
    for scene in foxes:
        drawn = looking(scene, view="front", expression="happy")
        assert not found_in(replace(drawn, image=cv2.GaussianBlur(drawn.image, (0, 0), 4)), "fox")


def head(*eyes: tuple[int, int], size: int = SIDE) -> np.ndarray:
    """A red picture with eyes at (x, y), in pixels of 128."""
    picture = np.full((size, size, 3), (200, 40, 40), np.uint8)
    scale = size / SIDE
    for x, y in eyes:
        centre = round(x * scale), round(y * scale)
        cv2.circle(picture, centre, round(4 * scale), (250, 250, 250), -1, cv2.LINE_AA)
        cv2.circle(picture, centre, round(2.4 * scale), (20, 20, 30), -1, cv2.LINE_AA)
    return picture


EVERYWHERE = np.ones((64, 64), bool)


@pytest.mark.parametrize("size", [128, 256])
def test_two_eyes_are_beside_each_other_in_the_upper_part(size):
    assert has_two_eyes(head((50, 40), (66, 41), size=size), EVERYWHERE)
    for wrong in (
        [],
        [(50, 40)],
        [(50, 30), (60, 50)],  # one below the other
        [(20, 40), (100, 40)],  # of two faces
        [(50, 110), (66, 110)],  # two feet
    ):
        assert not has_two_eyes(head(*wrong, size=size), EVERYWHERE), wrong


def test_only_the_character_counts():
    left = np.zeros((64, 64), bool)
    left[:, :29] = True
    assert not has_two_eyes(head((50, 40), (66, 40)), left), "one of them is somebody else's"
    assert not has_two_eyes(head((50, 40), (66, 40)), np.zeros((64, 64), bool))


def test_a_robots_eyes_are_light_on_a_dark_screen():
    screen = np.full((SIDE, SIDE, 3), (39, 48, 79), np.uint8)
    assert not has_two_eyes(screen, EVERYWHERE, glowing=True)
    for x in (50, 66):
        cv2.circle(screen, (x, 40), 3, (250, 250, 250), -1, cv2.LINE_AA)
    assert has_two_eyes(screen, EVERYWHERE, glowing=True)
    assert not has_two_eyes(screen, EVERYWHERE), "they have no pupils"


def reading(case: Case, number: int) -> Reading:
    characters = [
        CharacterReading(mask=mask, attributes=true.attributes, confidence={})
        for true, mask in zip(case.characters, instance_masks(case), strict=True)
    ]
    return Reading(place=case.scene.place, light=case.scene.light, characters=characters[:number])


def test_scores_count_the_subjects_whose_true_face_shows_two(cases):
    for case in cases:
        both, subjects = eyes_scores(case, reading(case, 2), case.true)["eyes"], len(case.characters)
        assert both == (subjects, subjects)
        assert eyes_scores(case, reading(case, subjects - 1), case.true)["eyes"] == (subjects - 1, subjects)
        assert eyes_scores(case, reading(case, 2), np.zeros_like(case.true))["eyes"] == (0, subjects)
        hidden = replace(case, true=np.zeros_like(case.true))
        assert eyes_scores(hidden, reading(case, 2), case.true) == {}, "what cannot be seen is not asked for"
