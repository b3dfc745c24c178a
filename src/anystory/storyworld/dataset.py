"""Training samples by index: plain functions that return numpy arrays and strings.

Nothing is kept between calls, so sample i is the same whatever the order, the number of workers or the
machine. The training package wraps these functions; there is no torch here.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from anystory.storyworld.appearance import sample_appearance
from anystory.storyworld.describe import describe
from anystory.storyworld.identity import sample_identity
from anystory.storyworld.level import Level, load_level
from anystory.storyworld.reference import render_reference
from anystory.storyworld.render import render_scene
from anystory.storyworld.rng import stream
from anystory.storyworld.scene import SPLITS, sample_pair, sample_scene


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


class PairSample(SceneSample):
    """A picture and one reference of each of its characters, drawn in another pose and view."""

    references: np.ndarray
    """(n_max, H, W, 4) uint8 RGBA, straight alpha; [i - 1] is character i; all zeros where nobody is."""
    count: int
    """How many references (and characters) are present."""


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
    """Return pair sample `index`: scene A of `sample_pair` and one independent reference per character.

    Args:
        n_max: length of `references`; at least the level's `max_characters`.
        reference_size: height and width of the references; None: `size`.

    Raises:
        ValueError: the level has scenes with more than `n_max` characters.
    """
    level = level if isinstance(level, Level) else load_level(level)
    if n_max < level.max_characters:
        raise ValueError(f"n_max must be at least {level.max_characters} for {level.name}, got {n_max}")
    reference_size = reference_size or size
    pair = sample_pair(index, level, split)
    drawn = render_scene(pair.a, size)
    references = np.zeros((n_max, reference_size, reference_size, 4), np.uint8)
    for i, (placement, appearance) in enumerate(zip(pair.a.placements, pair.references, strict=True)):
        references[i] = render_reference(placement.identity, appearance, reference_size, pair.b.style)
    return PairSample(
        image=drawn.image,
        instances=drawn.instances,
        caption=pair.a.caption,
        kinds=tuple(placement.identity.kind for placement in pair.a.placements),
        light=pair.a.light,
        place=pair.a.place,
        references=references,
        count=len(pair.a.placements),
    )


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
