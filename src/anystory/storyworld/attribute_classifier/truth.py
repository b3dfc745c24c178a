"""What is true of a scene's characters, and what of it can be seen at all.

An attribute that is hidden (behind another character or the picture's edge, under a scarf) cannot be judged. The rule:
an attribute is visible if giving it another value, and changing nothing else, would have changed the picture: at least
`VISIBLE_PIXELS` pixels (at 64 × 64; in proportion at other sizes) by at least `VISIBLE_CHANGE` of 255 levels in some
channel. Every other value of the level must do so; of a colour, the one that is farthest from the true one. The colour
of something that is not worn has no value and is never visible.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from anystory.storyworld.appearance import Appearance
from anystory.storyworld.attribute_classifier.attributes import (
    COLOUR_OF,
    PASSING,
    attribute_values,
    character_attributes,
)
from anystory.storyworld.identity import Identity
from anystory.storyworld.level import Level, load_level
from anystory.storyworld.palette import COLOURS, SKIN
from anystory.storyworld.render import RenderedScene, render_scene
from anystory.storyworld.scene import Placement, Scene

VISIBLE_PIXELS = 4
VISIBLE_CHANGE = 32


@dataclass(frozen=True, kw_only=True)
class TrueCharacter:
    """What is true of one character of a scene."""

    attributes: dict[str, str]
    """Attribute -> value; empty for the colour of something not worn."""
    visible: frozenset[str]
    """The attributes that can be judged in this picture."""


def truth(scene: Scene, drawn: RenderedScene, level: Level | str | int | None = None) -> list[TrueCharacter]:
    """What is true of the characters of a scene, from left to right.

    Draws the scene about 40 times per character.

    Args:
        drawn: `render_scene(scene, size)`; visibility is that of its size.
        level: where the other values come from; None: the built-in level that the scene names.

    Raises:
        ValueError: no such level.
    """
    level = level if isinstance(level, Level) else load_level(level or scene.level)
    needed = VISIBLE_PIXELS * (drawn.image.shape[0] / 64) ** 2
    return [
        TrueCharacter(
            attributes=character_attributes(placement.identity, placement.appearance),
            visible=_visible(scene, drawn, number, level, needed),
        )
        for number, placement in enumerate(scene.placements)
    ]


def _visible(scene: Scene, drawn: RenderedScene, number: int, level: Level, needed: float) -> frozenset[str]:
    placement = scene.placements[number]
    seen = set()
    for name, values in attribute_values(level).items():
        others = _others(placement, name, values)
        changes = (_change(scene, drawn, number, _with(placement, name, other, level)) for other in others)
        if others and all(change >= needed for change in changes):
            seen.add(name)
    return frozenset(seen)


def _others(placement: Placement, name: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """The values to compare the true one with; none for the colour of something not worn."""
    true = character_attributes(placement.identity, placement.appearance)[name]
    if true == "":
        return ()
    if true in COLOURS:
        return (_farthest(true, values),)
    return tuple(value for value in values if value != true)


def _with(placement: Placement, name: str, value: str, level: Level) -> Placement:
    """The placement with one attribute changed; what is put on gets a colour, what is taken off loses it."""
    if name in PASSING:
        appearance: Appearance = replace(placement.appearance, **{name: value})
        return replace(placement, appearance=appearance)
    old = placement.identity
    changes: dict[str, Any] = {name: value}
    if name == "kind":
        changes["complexion"] = next(iter(SKIN)) if value == "child" else ""
    for colour, worn in COLOUR_OF.items():
        if worn == name and name != "emblem":
            changes[colour] = "" if value == "none" else getattr(old, colour) or _farthest(old.primary, level.colours)
    identity: Identity = replace(old, **changes)
    return replace(placement, identity=identity)


def _change(scene: Scene, drawn: RenderedScene, number: int, placement: Placement) -> int:
    """How many pixels another placement in this one's stead changes."""
    placements = (*scene.placements[:number], placement, *scene.placements[number + 1 :])
    other = render_scene(replace(scene, placements=placements), drawn.image.shape[0]).image
    return int((np.abs(other.astype(np.int16) - drawn.image).max(axis=-1) >= VISIBLE_CHANGE).sum())


def _farthest(colour: str, names: tuple[str, ...]) -> str:
    return max(names, key=lambda name: sum(abs(a - b) for a, b in zip(_rgb(colour), _rgb(name), strict=True)))


def _rgb(name: str) -> Iterator[int]:
    return iter(COLOURS[name].to_bytes(3, "big"))
