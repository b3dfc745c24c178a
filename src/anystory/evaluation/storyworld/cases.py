"""What is asked of a model: captions of held-out scenes, and a reference picture of every character in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
from PIL import Image

from anystory.storyworld.appearance import Appearance
from anystory.storyworld.attribute_classifier.truth import TrueCharacter, truth
from anystory.storyworld.language.captions import says_light, words
from anystory.storyworld.level import Level, load_level
from anystory.storyworld.reference import render_reference
from anystory.storyworld.render import RenderedScene, render_scene
from anystory.storyworld.sampling import sample_group
from anystory.storyworld.scene import SPLITS, Placement, Scene

Group = str
GROUPS: tuple[Group, ...] = ("one", "two", "alike", "three")
"""One subject; two of different kinds; two of the same kind; three or more. `groups` has further ones."""

REFERENCE_SIZE = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One picture to draw and what it should show."""

    index: int
    """Of the group in StoryWorld's stream, and of the picture's noise."""
    group: Group
    scene: Scene
    drawn: RenderedScene
    """The scene as StoryWorld draws it, at the attribute classifier's size."""
    true: np.ndarray
    """The same at the model's size, (H, W, 3) uint8: what the ceiling is drawn from, and sharpness compared with."""
    references: tuple[Image.Image, ...]
    """RGBA, one per character, each in a pose and view of its own."""
    characters: tuple[TrueCharacter, ...]
    """What is true of each character, and what of it can be seen in the scene and in its reference, too."""
    appearances: tuple[Appearance, ...] = ()
    """How each character looks in its reference."""
    background: int | None = None
    """Seed of the noise that it shares with the other pictures of its place; None: its own."""
    pair: int | None = None
    """The place that it has in common with another case; None: no other."""

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


def draw_cases(
    number: int, *, level: Level | str | int, split: str, size: int, picture: int | None = None
) -> Iterator[Case]:
    """The first pairs of a split: a quarter with one subject, a quarter look-alikes, the rest with two kinds.

    On a level with more than two characters a quarter has three or more.

    Which scenes these are depends on `number`, `level` and `split` alone.

    Args:
        number: how many, at least 4.
        size: side of `drawn`, pixels.
        picture: side of `true`, pixels; None: `size`.

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
    if level.max_characters > 2:
        left["three"] = number // 4
    left["two"] = number - sum(left.values())
    for index in count():
        sampled = sample_group(index, 2, level, split)
        group = group_of(sampled.scenes[0])
        if left.get(group):
            left[group] -= 1
            yield make_case(
                index=index,
                group=group,
                scene=sampled.scenes[0],
                references=sampled.references,
                style=sampled.scenes[1].style,
                level=level,
                size=size,
                picture=picture or size,
            )
        if not any(left.values()):
            return


def group_of(scene: Scene) -> Group:
    """The group that a scene belongs to."""
    kinds = [placement.identity.kind for placement in scene.placements]
    if len(kinds) == 1:
        return "one"
    if len(kinds) > 2:
        return "three"
    return "two" if kinds[0] != kinds[1] else "alike"


def make_case(
    *,
    index: int,
    group: Group,
    scene: Scene,
    references: Sequence[Appearance],
    style: str,
    level: Level,
    size: int,
    picture: int,
    background: int | None = None,
    pair: int | None = None,
) -> Case:
    """A scene as a case.

    Args:
        references: how each character looks in its reference.
        style: of the references.
        level: what visible attributes are compared with.
        index, group, size, picture, background, pair: see `Case` and `draw_cases`.
    """
    drawn = render_scene(scene, size)
    characters, pictures = [], []
    in_scene = truth(scene, drawn, level)
    for placement, appearance, true in zip(scene.placements, references, in_scene, strict=True):
        pixels = render_reference(placement.identity, appearance, REFERENCE_SIZE, style)
        pictures.append(Image.fromarray(pixels))
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
        true=drawn.image if picture == size else render_scene(scene, picture).image,
        references=tuple(pictures),
        characters=tuple(characters),
        appearances=tuple(references),
        background=background,
        pair=pair,
    )


def instance_masks(case: Case) -> list[np.ndarray]:
    """The visible pixels of each character in the true scene, (H, W) bool."""
    return [case.drawn.instances == number for number in range(1, len(case.characters) + 1)]
