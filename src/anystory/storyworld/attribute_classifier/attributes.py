"""What the classifier says about one character, as words: the vocabulary that truth, readings and scores share."""

from __future__ import annotations

from anystory.storyworld.appearance import Appearance
from anystory.storyworld.identity import Identity
from anystory.storyworld.level import Level

COARSE = ("kind", "primary")
"""What a prompt may well say already."""
FINE = (
    "secondary", "accent", "pattern", "emblem", "headwear", "headwear_colour", "neckwear", "neckwear_colour",
    "accessory", "accessory_colour",
)  # fmt: skip
"""What only a reference picture carries."""
PASSING = ("pose", "view")
"""How somebody looks in one picture; not part of who it is."""

COLOUR_OF = {
    "accent": "emblem",
    "headwear_colour": "headwear",
    "neckwear_colour": "neckwear",
    "accessory_colour": "accessory",
}
"""Attribute -> the one that it colours. The colour of "none" is the empty word."""


def attribute_values(level: Level) -> dict[str, tuple[str, ...]]:
    """Attribute -> the words that it can take in a level, COARSE, FINE and PASSING in order."""
    colours = level.colours
    return {
        "kind": level.kinds,
        "primary": colours,
        "secondary": colours,
        "accent": colours,
        "pattern": level.patterns,
        "emblem": ("none", *level.emblems),
        "headwear": ("none", *level.headwear),
        "headwear_colour": colours,
        "neckwear": ("none", *level.neckwear),
        "neckwear_colour": colours,
        "accessory": ("none", *level.accessories),
        "accessory_colour": colours,
        "pose": level.poses,
        "view": level.views,
    }


def identity_attributes(identity: Identity) -> dict[str, str]:
    """The true COARSE and FINE attributes of an identity; the colour of something not worn is empty."""
    found = {name: str(getattr(identity, name)) for name in (*COARSE, *FINE)}
    return blank_colours(found)


def character_attributes(identity: Identity, appearance: Appearance) -> dict[str, str]:
    """All true attributes of one character in one picture."""
    return {**identity_attributes(identity), "pose": appearance.pose, "view": appearance.view}


def blank_colours(attributes: dict[str, str]) -> dict[str, str]:
    """A copy in which the colour of "none" is the empty word."""
    return {name: "" if attributes.get(COLOUR_OF.get(name, "")) == "none" else v for name, v in attributes.items()}
