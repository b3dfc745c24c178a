"""Training samples by index: plain functions that return numpy arrays and strings.

Nothing is kept between calls, so sample i is the same whatever the order, the number of workers or the
machine. The training package wraps these functions; there is no torch here.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from anystory.storyworld.appearance import sample_appearance
from anystory.storyworld.identity import sample_identity
from anystory.storyworld.language.describe import describe
from anystory.storyworld.level import Level, load_level
from anystory.storyworld.reference import render_reference
from anystory.storyworld.render import render_scene
from anystory.storyworld.rng import stream
from anystory.storyworld.sampling import SceneGroup, sample_group, sample_scene
from anystory.storyworld.scene import SPLITS


class SceneSample(TypedDict):
    """A picture with its words and masks. H = W = size."""

    image: np.ndarray
    """(H, W, 3) uint8, RGB."""
    instances: np.ndarray
    """(H, W) uint8: 0 background, i the visible pixels of character i."""
    caption: str
    kinds: tuple[str, ...]
    """Kind of character 1, 2, ..."""
    light: str
    place: str


class ReferenceSample(TypedDict):
    """One reference of each character, drawn in a pose and view of its own."""

    references: np.ndarray
    """(n_max, H, W, 4) uint8 RGBA, straight alpha; [i - 1] is character i; all zeros where nobody is."""
    count: int
    """How many references (and characters) are present."""


class PairSample(SceneSample, ReferenceSample):
    """A picture and one reference of each of its characters, drawn in another pose and view."""


class GroupSample(ReferenceSample):
    """Several pictures of the same characters, and one reference of each, drawn in poses and views of their own."""

    images: np.ndarray
    """(T, H, W, 3) uint8, RGB."""
    instances: np.ndarray
    """(T, H, W) uint8: 0 background, i the visible pixels of character i, the same one in every picture."""
    captions: list[str]


class DescriptionSample(TypedDict):
    """A single character and what it looks like in words."""

    reference: np.ndarray
    """(H, W, 4) uint8 RGBA, straight alpha."""
    text: str
    kind: str


def scenes(index: int, *, level: Level | str | int = 1, split: str = "train", size: int = 64) -> SceneSample:
    """Return scene sample `index`."""
    scene = sample_scene(index, level, split)
    drawn = render_scene(scene, size)
    return SceneSample(
        image=drawn.image,
        instances=drawn.instances,
        caption=scene.caption,
        kinds=tuple(placement.identity.kind for placement in scene.placements),
        light=scene.light,
        place=scene.place,
    )


def pairs(
    index: int,
    n_max: int = 2,
    *,
    level: Level | str | int = 1,
    split: str = "train",
    size: int = 64,
    reference_size: int | None = None,
) -> PairSample:
    """Return pair sample `index`: the first picture of group `index`, with its references.

    Args:
        n_max: length of `references`; at least the level's `max_characters`.
        reference_size: height and width of the references; None: `size`.

    Raises:
        ValueError: the level has scenes with more than `n_max` characters.
    """
    level = level if isinstance(level, Level) else load_level(level)
    group = sample_group(index, 2, level, split)
    first = group.scenes[0]
    drawn = render_scene(first, size)
    return PairSample(
        image=drawn.image,
        instances=drawn.instances,
        caption=first.caption,
        kinds=tuple(placement.identity.kind for placement in first.placements),
        light=first.light,
        place=first.place,
        references=_references(group, n_max, level, reference_size or size),
        count=len(first.placements),
    )


def groups(
    index: int,
    targets: int,
    n_max: int = 2,
    *,
    level: Level | str | int = 1,
    split: str = "train",
    size: int = 64,
    reference_size: int | None = None,
) -> GroupSample:
    """Return group sample `index`: `targets` pictures of the same characters and one independent reference of each.

    With one target it is pair sample `index`.

    Args:
        targets: T, at least 1.
        n_max: length of `references`; at least the level's `max_characters`.
        reference_size: height and width of the references; None: `size`.

    Raises:
        ValueError: the level has scenes with more than `n_max` characters, or a number of targets that cannot be.
    """
    level = level if isinstance(level, Level) else load_level(level)
    group = sample_group(index, max(targets, 2), level, split)
    order = [placement.identity for placement in group.scenes[0].placements]
    images, instances = [], []
    for scene in group.scenes[:targets]:
        drawn = render_scene(scene, size)
        # Instance ids run from left to right in each picture; here they name the character.
        ids = [0, *(1 + order.index(placement.identity) for placement in scene.placements)]
        images.append(drawn.image)
        instances.append(np.array(ids, np.uint8)[drawn.instances])
    return GroupSample(
        images=np.stack(images),
        instances=np.stack(instances),
        captions=[scene.caption for scene in group.scenes[:targets]],
        references=_references(group, n_max, level, reference_size or size),
        count=len(order),
    )


def _references(group: SceneGroup, n_max: int, level: Level, size: int) -> np.ndarray:
    if n_max < level.max_characters:
        raise ValueError(f"n_max must be at least {level.max_characters} for {level.name}, got {n_max}")
    references = np.zeros((n_max, size, size, 4), np.uint8)
    first, second = group.scenes[:2]
    for i, (placement, appearance) in enumerate(zip(first.placements, group.references, strict=True)):
        references[i] = render_reference(placement.identity, appearance, size, second.style)
    return references


def descriptions(
    index: int, *, level: Level | str | int = 1, split: str = "train", size: int = 64
) -> DescriptionSample:
    """Return description sample `index`: a character on its own canvas and its looks in words."""
    level = level if isinstance(level, Level) else load_level(level)
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: it is one of {', '.join(SPLITS)}")
    key = (level.name, split, index, "description")
    identity = sample_identity(stream(*key, "identity"), level, heldout=split == "heldout")
    rng = stream(*key, "appearance")
    appearance = sample_appearance(rng, level)
    return DescriptionSample(
        reference=render_reference(identity, appearance, size, rng.pick(level.styles)),
        text=describe(identity, appearance, stream(*key, "text")),
        kind=identity.kind,
    )
