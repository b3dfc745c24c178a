"""Scenes from numbers: everything follows from (seed, level, split), the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from string import ascii_lowercase

from anystory.storyworld.appearance import Appearance, sample_appearance
from anystory.storyworld.arrangement import arrange
from anystory.storyworld.identity import Identity, sample_identity
from anystory.storyworld.language.captions import caption
from anystory.storyworld.level import Level, load_level
from anystory.storyworld.rng import Rng, stream
from anystory.storyworld.scene import SPLITS, Scene

_ARRANGEMENT_WEIGHTS = {"apart": 6, "overlapping": 2, "in_front": 1, "holding_hands": 1}
_SAME_KIND = 0.15
_COUNT_WEIGHTS = {2: (35, 65), 3: (30, 50, 20), 4: (25, 45, 20, 10)}
"""How often scenes have 1, 2, ... characters, by the most that the level allows."""


def sample_scene(seed: int, level: Level | str | int = 1, split: str = "train") -> Scene:
    """Return scene `seed` of a level: the same on every machine.

    Args:
        seed: any whole number.
        level: a `Level`, 1, 2, 3, "level1" or the path of a level file.
        split: "train" (identities that are not held out) or "heldout" (only such).

    Raises:
        ValueError: unknown level or split.
    """
    level = level if isinstance(level, Level) else load_level(level)
    identities = _sample_identities(stream(level.name, split, seed, "identities"), level, split)
    return compose_scene(f"{level.name}/{split}/{seed}", seed, level, split, identities)


@dataclass(frozen=True, kw_only=True)
class SceneGroup:
    """The same identities in several contexts, and as references of their own."""

    scenes: tuple[Scene, ...]
    references: tuple[Appearance, ...]
    """How identity i of every scene looks on its own canvas: independent of how it looks in them."""


def sample_group(seed: int, count: int, level: Level | str | int = 1, split: str = "train") -> SceneGroup:
    """Return group `seed`: the same identities in `count` scenes, each with its own poses, views, place, light, style.

    The first scenes are the same whatever `count` is. Placements run from left to right, so `scenes[0].placements[i]`
    and `scenes[1].placements[i]` need not be the same character; `references[i]` belongs to
    `scenes[0].placements[i].identity`.

    Raises:
        ValueError: unknown level or split, or fewer than 1 or more than 26 scenes.
    """
    if not 1 <= count <= len(ascii_lowercase):
        raise ValueError(f"a group has 1 to {len(ascii_lowercase)} scenes, got {count}")
    level = level if isinstance(level, Level) else load_level(level)
    identities = _sample_identities(stream(level.name, split, seed, "pair/identities"), level, split)
    key = f"{level.name}/{split}/{seed}/pair"
    keys = [f"{key}/{letter}" for letter in ascii_lowercase[:count]]
    scenes = tuple(compose_scene(own, seed, level, split, identities) for own in keys)
    rng = stream(key, "references")
    return SceneGroup(scenes=scenes, references=tuple(sample_appearance(rng, level) for _ in identities))


def _sample_identities(rng: Rng, level: Level, split: str) -> list[Identity]:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: it is one of {', '.join(SPLITS)}")
    weights = level.character_counts or _COUNT_WEIGHTS.get(level.max_characters)
    count = 1 if weights is None else 1 + _weighted(rng, weights)
    identities: list[Identity] = []
    for _ in range(count):
        kind = rng.pick(level.kinds)
        if identities:
            taken = {identity.kind for identity in identities}
            others = [name for name in level.kinds if name not in taken]
            kind = rng.pick(identities).kind if rng.chance(_SAME_KIND) or not others else rng.pick(others)
        identity = sample_identity(rng, level, heldout=split == "heldout", kind=kind)
        while identity in identities:
            identity = sample_identity(rng, level, heldout=split == "heldout", kind=kind)
        identities.append(identity)
    return identities


def compose_scene(key: str, seed: int, level: Level, split: str, identities: Sequence[Identity]) -> Scene:
    """A scene of given characters; all else follows from the key.

    Args:
        key: names the random streams, and the place's details.
        seed: what the scene says of itself.
        level: what may appear.
        split: of the identities.
        identities: 1 to 5; of more than four, no two of one kind: a caption counts up to "four".
    """
    rng = stream(key, "scene")
    arrangement = "alone"
    if len(identities) > 1:
        weights = [_ARRANGEMENT_WEIGHTS.get(name, 1) for name in level.arrangements]
        arrangement = level.arrangements[_weighted(rng, weights)]
    placements = arrange(rng, level, arrangement, rng.shuffle(identities))
    scene = Scene(
        seed=seed,
        level=level.name,
        split=split,
        decor=key,
        place=rng.pick(level.places),
        light=rng.pick(level.lights),
        style=rng.pick(level.styles),
        arrangement=arrangement,
        placements=tuple(placements),
    )
    style_chance = 0.05 if len(level.styles) == 1 else 0.7
    return replace(scene, caption=caption(scene, stream(key, "caption"), style_chance=style_chance))


def _weighted(rng: Rng, weights: Sequence[float]) -> int:
    """Return an index, drawn in proportion to its weight."""
    mark = rng.uniform(0, sum(weights))
    for index, weight in enumerate(weights):
        mark -= weight
        if mark < 0:
            return index
    return len(weights) - 1
