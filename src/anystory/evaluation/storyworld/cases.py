"""What is asked of a model: captions of held-out scenes, and a reference picture of every character in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Literal

import numpy as np
from PIL import Image

from anystory.storyworld.captions import says_light, words
from anystory.storyworld.judge import truth
from anystory.storyworld.judge.truth import TrueCharacter
from anystory.storyworld.level import Level, load_level
from anystory.storyworld.reference import render_reference
from anystory.storyworld.render import RenderedScene, render_scene
from anystory.storyworld.scene import SPLITS, Placement, Scene, ScenePair, sample_pair

Group = Literal["one", "two", "alike"]
GROUPS: tuple[Group, ...] = ("one", "two", "alike")
"""One subject; several, each of another kind; several of which two are of the same kind."""

REFERENCE_SIZE = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One picture to draw and what it should show."""

    index: int
    """Of the pair in StoryWorld's stream, and of the picture's noise."""
    group: Group
    scene: Scene
    drawn: RenderedScene
    """The scene as StoryWorld draws it, at the judge's size: the truth that the ceiling is read from."""
    references: tuple[Image.Image, ...]
    """RGBA, one per character, each in a pose and view of its own."""
    characters: tuple[TrueCharacter, ...]
    """What is true of each character, and what of it can be seen in the scene and in its reference, too."""

    @property
    def kinds(self) -> list[str]:
        """The characters' kinds, from left to right."""
        return [placement.identity.kind for placement in self.scene.placements]

    @property
    def said(self) -> frozenset[str]:
        """The words of the caption."""
        return frozenset(words(self.scene.caption))

    @property
    def light_is_said(self) -> bool:
        """Whether the caption says what light it is."""
        return says_light(self.scene.caption)

    def pose_is_said(self, character: int) -> bool:
        """Whether the caption says this character's pose (whoever merely stands often goes without)."""
        return self.scene.placements[character].appearance.pose in self.said


def draw_cases(number: int, *, level: Level | str | int, split: str, size: int) -> Iterator[Case]:
    """The first pairs of a split: a quarter with one subject, half with several kinds, a quarter look-alikes.

    Which scenes these are depends on `number`, `level` and `split` alone.

    Args:
        number: how many, at least 4.
        size: side of `drawn`, pixels.

    Raises:
        ValueError: too few, an unknown split, or a level of only one character.
    """
    level = level if isinstance(level, Level) else load_level(level)
    if number < 4:
        raise ValueError(f"an evaluation needs at least 4 pictures, got {number}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: it is one of {', '.join(SPLITS)}")
    if level.max_characters < 2:
        raise ValueError(f"{level.name} has scenes of one character only: choose a level with at least two")
    left: dict[Group, int] = {"one": number // 4, "alike": number // 4}
    left["two"] = number - left["one"] - left["alike"]
    for index in count():
        pair = sample_pair(index, level, split)
        group = group_of(pair.a)
        if left[group]:
            left[group] -= 1
            yield _case(index, group, pair, level, size)
        if not any(left.values()):
            return


def group_of(scene: Scene) -> Group:
    """One subject, several kinds, or look-alikes."""
    kinds = [placement.identity.kind for placement in scene.placements]
    if len(kinds) == 1:
        return "one"
    return "two" if len(set(kinds)) == len(kinds) else "alike"


def _case(index: int, group: Group, pair: ScenePair, level: Level, size: int) -> Case:
    scene = pair.a
    drawn = render_scene(scene, size)
    characters, references = [], []
    in_scene = truth(scene, drawn, level)
    for placement, appearance, true in zip(scene.placements, pair.references, in_scene, strict=True):
        pixels = render_reference(placement.identity, appearance, REFERENCE_SIZE, pair.b.style)
        references.append(Image.fromarray(pixels))
        # What a reference's pose and view hide nobody can draw: the same rule, on the character alone.
        alone = Placement(identity=placement.identity, appearance=appearance, x=0.5, y=0.92, height=0.62, depth=0.5)
        portrait = replace(scene, placements=(alone,), arrangement="alone", light="day")
        shown = truth(portrait, render_scene(portrait, size), level)[0].visible
        characters.append(replace(true, visible=true.visible & shown))
    return Case(
        index=index,
        group=group,
        scene=scene,
        drawn=drawn,
        references=tuple(references),
        characters=tuple(characters),
    )


def instance_masks(case: Case) -> list[np.ndarray]:
    """The visible pixels of each character in the true scene, (H, W) bool."""
    return [case.drawn.instances == number for number in range(1, len(case.characters) + 1)]
