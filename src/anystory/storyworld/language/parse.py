"""An identity from an English description: "a striped blue fox with a red hat"."""

from __future__ import annotations

import difflib
import re
import warnings
from dataclasses import dataclass, field

from anystory.storyworld.appearance import EXPRESSIONS, POSES, VIEWS
from anystory.storyworld.identity import (
    HEAD_SIZES,
    KINDS,
    LEG_LENGTHS,
    PATTERNS,
    WIDTHS,
    Identity,
    Proportions,
)  # fmt: skip
from anystory.storyworld.language.words import (
    ACCESSORY_WORDS,
    EMBLEM_WORDS,
    HEADWEAR_WORDS,
    NECKWEAR_WORDS,
    PATTERN_WORDS,
)  # fmt: skip
from anystory.storyworld.palette import COLOURS, SKIN, contrasting
from anystory.storyworld.rng import Rng, stream

_SAME = {
    "gray": "grey", "violet": "purple", "turquoise": "teal", "gold": "yellow", "golden": "yellow",
    "bunny": "rabbit", "hare": "rabbit", "kitten": "cat", "kid": "child", "girl": "child", "boy": "child",
    "teddy": "bear", "toad": "frog", "spotty": "spotted", "dotted": "spotted", "dots": "spots", "stripy": "striped",
    "checkered": "checked", "chequered": "checked", "patchy": "patched", "hat": "top hat", "tophat": "top hat",
    "bowtie": "bow tie", "tie": "bow tie", "bow": "hair bow", "partyhat": "party hat", "bolt": "lightning bolt",
    "lightning": "lightning bolt", "rucksack": "backpack", "sunglasses": "glasses", "spectacles": "glasses",
    "bellied": "belly", "tummy": "belly", "stripe": "stripes", "spot": "spots", "patch": "patches", "check": "checks",
    "chevron": "chevrons", "boot": "boots",
}  # fmt: skip
"""Other words for what we know."""
_PHRASES = ("top hat", "party hat", "bow tie", "hair bow", "hair flower", "lightning bolt")
_FILLERS = frozenset(
    (
        "a", "an", "the", "with", "and", "on", "of", "in", "its", "her", "his", "their", "that", "who", "which",
        "has", "have", "is", "wears", "wearing", "one", "chest", "front", "body", "head", "neck", "nose", "hair",
        "around", "over", "little", "small", "coloured", "colored",
    )
)  # fmt: skip
_WIDTHS = {"slim": WIDTHS[0], "thin": WIDTHS[0], "chubby": WIDTHS[2], "round": WIDTHS[2], "fat": WIDTHS[2]}
_LEGS = {"short": LEG_LENGTHS[0], "tall": LEG_LENGTHS[2]}


def _by_word(words: dict[str, str]) -> dict[str, str]:
    return {word: name for name, word in words.items()}


_WORN = {
    **{word: ("headwear", name) for word, name in _by_word(HEADWEAR_WORDS).items()},
    **{word: ("neckwear", name) for word, name in _by_word(NECKWEAR_WORDS).items()},
    **{word: ("accessory", name) for word, name in _by_word(ACCESSORY_WORDS).items()},
}
_EMBLEM = _by_word(EMBLEM_WORDS)
_PATTERN_ADJECTIVE = {adjective: name for name, (adjective, _) in PATTERN_WORDS.items() if adjective}
_PATTERN_NOUN = {noun: name for name, (_, noun) in PATTERN_WORDS.items() if noun}
_KNOWN = sorted(
    {*KINDS, *COLOURS, *_WORN, *_EMBLEM, *_PATTERN_ADJECTIVE, *_PATTERN_NOUN, *_SAME, *_WIDTHS, *_LEGS, *SKIN}
)


@dataclass
class _Draft:
    """What a description has said so far."""

    values: dict[str, str] = field(default_factory=dict)
    width: float | None = None
    legs: float | None = None
    colours: list[str] = field(default_factory=list)
    """Colours that wait for the noun they belong to."""
    tone: str = ""
    """A complexion that waits for the word "skin"."""
    unknown: list[str] = field(default_factory=list)

    def put(self, name: str, value: str) -> None:
        if self.values.get(name, value) != value:
            raise ValueError(f"the description gives two values for {name}: {self.values[name]!r} and {value!r}")
        self.values[name] = value


def parse_identity(text: str, seed: int = 0) -> Identity:
    """The character that `text` describes.

    What the text leaves open is drawn from `seed`: missing colours, the pattern and the build. Nothing is worn that
    the text does not mention.

    Warns:
        UserWarning: names the words that were not understood, with the nearest known ones.

    Raises:
        ValueError: no kind or several kinds in the text, or two values for one attribute (a hat and a crown).
    """
    draft = _Draft()
    for word in _words(text):
        _take(draft, word)
    if "kind" not in draft.values:
        unknown = "".join(f"; not understood: {_hint(word)}" for word in draft.unknown[:3])
        raise ValueError(f"{text!r} names no kind of character: use one of {', '.join(KINDS)}{unknown}")
    if "primary" not in draft.values and draft.colours:
        # a colour after its noun ("a fox, blue") is still the primary one
        draft.values["primary"] = draft.colours.pop(0)
    draft.unknown += draft.colours
    if draft.tone and draft.values["kind"] != "child":
        draft.unknown.append(draft.tone)
    if draft.unknown:
        hints = "; ".join(_hint(word) for word in draft.unknown)
        warnings.warn(f"not understood in {text!r}: {hints}", UserWarning, stacklevel=2)
    return _complete(draft, stream(seed, "describe"))


def _words(text: str) -> list[str]:
    """Lower-case words, with phrases such as "top hat" as one and other words replaced by ours."""
    words: list[str] = re.findall(r"[^\W\d_]+", text.lower())
    merged: list[str] = []
    i = 0
    while i < len(words):
        phrase = " ".join(words[i : i + 2])
        if phrase in _PHRASES:
            merged.append(phrase)
            i += 2
        else:
            word = words[i]
            merged.append(_SAME.get(word, word))
            i += 1
    return merged


def _take(draft: _Draft, word: str) -> None:
    if word in COLOURS:
        draft.colours.append(word)
    elif word in KINDS:
        draft.put("kind", word)
        _use_colours(draft, "primary", "secondary")
    elif word in _PATTERN_ADJECTIVE:
        draft.put("pattern", _PATTERN_ADJECTIVE[word])
    elif word in _PATTERN_NOUN:
        draft.put("pattern", _PATTERN_NOUN[word])
        names = ("secondary",) if "primary" in draft.values or len(draft.colours) < 2 else ("primary", "secondary")
        _use_colours(draft, *names)
    elif word in _EMBLEM:
        draft.put("emblem", _EMBLEM[word])
        _use_colours(draft, "accent")
    elif word in _WORN:
        slot, item = _WORN[word]
        draft.put(slot, item)
        _use_colours(draft, f"{slot}_colour")
    elif word == "skin":
        tone = draft.tone or (draft.colours.pop() if draft.colours else "")
        draft.tone = ""
        if tone in SKIN:
            draft.put("complexion", tone)
        else:
            draft.unknown.append(word)
    elif word in SKIN:
        draft.tone = word
    elif word in _WIDTHS:
        draft.width = _WIDTHS[word]
    elif word in _LEGS:
        draft.legs = _LEGS[word]
    elif word not in _FILLERS:
        draft.unknown.append(word)


def _use_colours(draft: _Draft, *names: str) -> None:
    """Gives the waiting colours to attributes, in order; those left over belong to nothing we know."""
    for name, colour in zip(names, draft.colours, strict=False):
        draft.put(name, colour)
    draft.unknown += draft.colours[len(names) :]
    draft.colours = []


def _hint(word: str) -> str:
    for what, known in (("pose", POSES), ("view", VIEWS), ("expression", EXPRESSIONS)):
        if word in known:
            return f"{word!r} (a {what}: not part of who a character is)"
    if word in COLOURS:
        return f"{word!r} (one colour too many)"
    near = difflib.get_close_matches(word, _KNOWN, 2, 0.6)
    return f"{word!r} (nearest: {', '.join(near)})" if near else repr(word)


def _complete(draft: _Draft, rng: Rng) -> Identity:
    values = dict(draft.values)
    names = tuple(COLOURS)
    values.setdefault("primary", rng.pick(names))
    values.setdefault("secondary", rng.pick(contrasting(names, values["primary"])))
    values.setdefault("accent", rng.pick(contrasting(names, values["primary"], values["secondary"])))
    values.setdefault("pattern", rng.pick(PATTERNS))
    for slot in ("headwear", "neckwear", "accessory"):
        if slot in values:
            values.setdefault(f"{slot}_colour", rng.pick(contrasting(names, values["primary"])))
    if values["kind"] == "child":
        values.setdefault("complexion", draft.tone or rng.pick(tuple(SKIN)))
    else:
        values.pop("complexion", None)
    build = Proportions(
        head=rng.pick(HEAD_SIZES), width=draft.width or rng.pick(WIDTHS), legs=draft.legs or rng.pick(LEG_LENGTHS)
    )
    return Identity(**values, proportions=build)
