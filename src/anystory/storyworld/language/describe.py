"""English for an identity.

A caption of a scene never tells who a character is; a description does nothing else.
"""

from __future__ import annotations

from anystory.storyworld.appearance import EXPRESSIONS, HELD, POSES, Appearance
from anystory.storyworld.identity import KINDS, Identity
from anystory.storyworld.language.words import (
    ACCESSORY_WORDS,
    EMBLEM_WORDS,
    HEADWEAR_WORDS,
    NECKWEAR_WORDS,
    PATTERN_WORDS,
    VIEW_WORDS,
)  # fmt: skip
from anystory.storyworld.palette import COLOURS
from anystory.storyworld.rng import Rng

_PLURAL = ("glasses", "boots")


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def _list(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def describe(identity: Identity, appearance: Appearance | None, rng: Rng) -> str:
    """A sentence fragment in varied English about who the character is and, if given, what it does.

    All that is worn is named in most descriptions; some leave a few details out, as people do.
    """
    adjective, noun = PATTERN_WORDS[identity.pattern]
    features: list[str] = []
    name = f"{identity.primary} {identity.kind}"
    if noun and (not adjective or rng.chance(0.5)):
        if noun == "half":
            features.append(f"one {identity.secondary} half")
        elif noun == "belly":
            features.append(f"a {identity.secondary} belly")
        else:
            features.append(f"{identity.secondary} {noun}")
    elif adjective and (adjective != "plain" or rng.chance(0.3)):
        name = f"{adjective} {name}"
    if identity.emblem != "none":
        place = rng.pick((" on the chest", "", " on the front"))
        features.append(_article(f"{identity.accent} {EMBLEM_WORDS[identity.emblem]}") + place)
    for item, colour, words in (
        (identity.headwear, identity.headwear_colour, HEADWEAR_WORDS),
        (identity.neckwear, identity.neckwear_colour, NECKWEAR_WORDS),
        (identity.accessory, identity.accessory_colour, ACCESSORY_WORDS),
    ):
        if item != "none":
            thing = f"{colour} {words[item]}"
            features.append(thing if item in _PLURAL else _article(thing))
    if rng.chance(0.5):
        features = rng.shuffle(features)
    if len(features) > 2 and rng.chance(0.25):
        features = features[:-1]

    text = rng.pick((_article(name), f"the {name}", name))
    if features:
        text += rng.pick((" with ", " that has ")) + _list(features)
    if appearance is not None:
        text += f", {appearance.pose}"
        if appearance.held != "none":
            text += " and holding " + _article(appearance.held)
        if rng.chance(0.6):
            text += ", " + VIEW_WORDS[appearance.view]
        if rng.chance(0.3):
            text += f", {appearance.expression}"
    return text


def description_vocabulary() -> list[str]:
    """Every word that a description can contain, sorted."""
    phrases = [
        "a an the with that has and on chest front one holding",
        *KINDS, *COLOURS, *POSES, *EXPRESSIONS, *HELD[1:], *VIEW_WORDS.values(), *EMBLEM_WORDS.values(),
        *HEADWEAR_WORDS.values(), *NECKWEAR_WORDS.values(), *ACCESSORY_WORDS.values(),
        *(word for pair in PATTERN_WORDS.values() for word in pair),
    ]  # fmt: skip
    return sorted({word for phrase in phrases for word in phrase.split()})
