"""Captions: what a person would write to ask for a scene: kind, pose, action, place, light, style.

Never who it is: colours, patterns and wear are for the references to tell.

A caption is built in three steps: a phrase for each character, a group (how they stand together, either
a phrase "a fox and a robot waving" or a clause "a fox and a robot are waving"), and a frame with place and
light.
Every word comes from the tables here or from `Place.phrases`, so that `vocabulary` can list them all.
"""

from __future__ import annotations

import re
from collections import Counter

from anystory.storyworld.appearance import HELD, POSES
from anystory.storyworld.identity import KINDS
from anystory.storyworld.language.describe import description_vocabulary
from anystory.storyworld.places import PLACES
from anystory.storyworld.rng import Rng
from anystory.storyworld.scene import Placement, Scene

_PLURALS = {"fox": "foxes", "mouse": "mice", "child": "children", "snowman": "snowmen"}
_COUNTS = {2: "two", 3: "three", 4: "four"}
_DOING = {pose: pose for pose in POSES} | {"lying": "lying down"}
_LIGHTS = {
    "day": ("by day", "on a sunny day", "in the daytime"),
    "dusk": ("at dusk", "at dusk", "at sunset", "in the evening"),
    "night": ("at night", "at night", "by night", "on a dark night"),
}
_LIGHT_CHANCE = {"day": 0.45, "dusk": 0.93, "night": 0.93}
"""A caption without a light mostly means day."""
_STYLES = {
    "flat": ("a flat picture of", "in flat colours"),
    "outlined": ("an outlined picture of", "drawn with outlines"),
    "papercut": ("a paper cut picture of", "cut from paper"),
}
_PICTURES = ("a picture of", "a drawing of", "a picture book page with")
_STANDING_UNSAID = 0.35
"""How often a character that merely stands has no verb at all: "a fox on a beach"."""

# {a}, {b}: "a fox"; {do}, {doa}, {dob}: "waving"; {ma}, {mb}: "a waving fox"; {list}, {mlist}: several.
_ALONE = {"phrase": ("{a} {do}", "{a} {do}", "{ma}"), "clause": ("{a} is {do}", "there is {ma}")}
_SAME = {
    "phrase": ("{list} {do}", "{list} {do}", "{list} {do} together"),
    "clause": ("{list} are {do}", "{list} are {do} together", "there are {list} {do}"),
}
_HANDS = {"phrase": ("{list} holding hands", "{list} hand in hand"), "clause": ("{list} are holding hands",)}
_IN_FRONT = {"phrase": ("{ma} in front of {mb}",), "clause": ("{a} is {doa} in front of {mb}",)}
_DIFFERENT = {
    "phrase": ("{ma} and {mb}", "{a} {doa} and {b} {dob}", "{a} {doa} next to {mb}", "{ma} beside {mb}"),
    "clause": ("{a} is {doa} and {b} is {dob}", "{a} is {doa} next to {mb}", "{a} is {doa} while {b} is {dob}"),
}
_SIDES = {
    "phrase": ("{ma} on the left and {mb} on the right", "{a} on the left, {b} on the right"),
    "clause": ("on the left {a} is {doa}, on the right {b} is {dob}", "{ma} is on the left of {mb}"),
}
_MANY = {"phrase": ("{mlist}",), "clause": ("there are {mlist}",)}
_FRAMES = {
    "phrase": ("{group} {where} {when}", "{group} {where} {when}", "{picture} {group} {where} {when}"),
    "clause": ("{group} {where} {when}", "{where} {when}, {group}", "{when}, {group} {where}"),
}
_JOINERS = ("and", "another", "with a", "with an", "and holding", "holding", "a", "an", ",")


def caption(scene: Scene, rng: Rng, *, style_chance: float = 0.1) -> str:
    """Return a lower-case English caption of fewer than 40 words, commas its only punctuation.

    Args:
        scene: its place, light, style and placements are described; its own `caption` is not read.
        rng: chooses the wording.
        style_chance: probability that the drawing style is named.
    """
    placements = list(scene.placements)
    form = "phrase" if rng.chance(0.6) else "clause"
    group = _group(scene, placements, form, rng)
    picture = rng.pick(_PICTURES)
    ending = ""
    if rng.chance(style_chance):
        prefix, suffix = _STYLES[scene.style]
        if form == "phrase" and rng.chance(0.5):
            group = f"{prefix} {group}"
            frame = _FRAMES["phrase"][0]
        else:
            frame, ending = rng.pick(_FRAMES[form]), f", {suffix}"
    else:
        frame = rng.pick(_FRAMES[form])
    when = rng.pick(_LIGHTS[scene.light]) if rng.chance(_LIGHT_CHANCE[scene.light]) else ""
    if not when and frame.startswith("{when}"):
        frame = _FRAMES[form][0]
    # The plainest wording of a place is also the most frequent one.
    phrases = PLACES[scene.place].phrases
    where = phrases[0] if rng.chance(0.4) else rng.pick(phrases)
    text = frame.format(group=group, where=where, when=when, picture=picture) + ending
    return " ".join(text.split()).replace(" ,", ",")


def long_caption(scene: Scene, rng: Rng, most: int = 38) -> str:
    """Return a caption that says things several times: each character by itself, the place, the light, the style.

    All of it is true, and made of the words of `vocabulary`.

    Args:
        scene, rng: see `caption`.
        most: words, commas included; 38 is what the embedded model reads.
    """
    parts = [caption(scene, rng, style_chance=1.0)]
    for placement in scene.placements:
        spoken = _Spoken(placement, rng)
        parts.append(rng.pick((f"there is {spoken.noun(modified=True)}", f"{spoken.noun()} is {spoken.doing}")))
    phrases = PLACES[scene.place].phrases
    parts += [f"{rng.pick(phrases)} {rng.pick(_LIGHTS[scene.light])}", caption(scene, rng)]
    text = parts[0]
    for part in parts[1:]:
        longer = f"{text}, {part}"
        text = longer if len(words(longer)) <= most else text
    return text


def vocabulary() -> list[str]:
    """Return, sorted, every word that captions and descriptions of any level can contain (no commas)."""
    tables = (_ALONE, _SAME, _HANDS, _IN_FRONT, _DIFFERENT, _SIDES, _MANY, _FRAMES, _LIGHTS, _STYLES)
    texts: list[str] = [text for table in tables for values in table.values() for text in values]
    texts += [*_PICTURES, *_JOINERS, *_DOING.values(), *POSES, *_COUNTS.values()]
    texts += [word for kind in KINDS for word in (kind, _plural(kind))]
    texts += [held for held in HELD if held != "none"]
    texts += [phrase for place in PLACES.values() for phrase in place.phrases]
    texts += description_vocabulary()
    return sorted({word for text in texts for word in words(re.sub(r"\{\w+\}", " ", text)) if word != ","})


def says_light(text: str) -> bool:
    """Whether a caption says what light it is; mostly it does, unless it is day."""
    return any(phrase in text for phrases in _LIGHTS.values() for phrase in phrases)


def words(text: str) -> list[str]:
    """Split a caption into its words; a comma is a word of its own."""
    return re.findall(r"[^\s,]+|,", text)


def _plural(kind: str) -> str:
    return _PLURALS.get(kind, f"{kind}s")


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _join(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


class _Spoken:
    """The wordings of one character: what it does, and itself with that verb in front."""

    def __init__(self, placement: Placement, rng: Rng):
        appearance = placement.appearance
        self.kind = placement.identity.kind
        self.held = "" if appearance.held == "none" else appearance.held
        self.idle = appearance.pose == "standing" and rng.chance(_STANDING_UNSAID)
        self.adjective = "" if self.idle else appearance.pose
        self.doing = _DOING[appearance.pose]
        if self.held:
            thing = _a(self.held)
            standing = appearance.pose == "standing"
            joined = f"holding {thing}" if standing else f"{self.doing} and holding {thing}"
            self.doing = joined if rng.chance(0.6) else f"{self.doing} with {thing}"

    def noun(self, *, modified: bool = False, another: bool = False) -> str:
        text = f"{self.adjective} {self.kind}".strip() if modified else self.kind
        text = f"another {text}" if another else _a(text)
        return f"{text} with {_a(self.held)}" if modified and self.held else text


def _listing(spoken: list[_Spoken], modified: bool, rng: Rng) -> str:
    """Name all characters; equal ones are counted ("two foxes") or told apart ("a fox and another fox")."""
    if len(spoken) == 2 and spoken[0].kind == spoken[1].kind and rng.chance(0.35):
        return f"{spoken[0].noun(modified=modified)} and {spoken[1].noun(modified=modified, another=True)}"
    counts: Counter[tuple[str, str, str]] = Counter()
    first: dict[tuple[str, str, str], _Spoken] = {}
    for one in spoken:
        key = (one.kind, one.adjective if modified else "", one.held if modified else "")
        counts[key] += 1
        first.setdefault(key, one)
    items = []
    for (kind, adjective, held), count in counts.items():
        if count == 1:
            items.append(first[(kind, adjective, held)].noun(modified=modified))
        else:
            many = f"{_COUNTS[count]} {adjective} {_plural(kind)}"
            items.append(f"{many} with {_plural(held)}" if held else many)
    return _join(items)


def _group(scene: Scene, placements: list[Placement], form: str, rng: Rng) -> str:
    """Name the characters and what they do, as a phrase or a clause."""
    by_page = sorted(placements, key=lambda placement: placement.x)
    if scene.arrangement == "in_front" and len(placements) == 2:
        ordered = sorted(placements, key=lambda placement: -placement.depth)
    else:
        # Who is named first mostly stands on the left, but nobody should rely on it.
        ordered = by_page if rng.chance(0.75) else rng.shuffle(by_page)
    spoken = [_Spoken(placement, rng) for placement in ordered]
    if len(spoken) == 1:
        return _fill(rng.pick(_ALONE[form]), spoken, rng, form)
    same = len({(one.doing, one.held) for one in spoken}) == 1
    if len(spoken) > 2:
        return _fill(rng.pick((_SAME if same else _MANY)[form]), spoken, rng, form)
    if scene.arrangement == "holding_hands" and rng.chance(0.85):
        table = _HANDS
    elif scene.arrangement == "in_front" and rng.chance(0.7):
        table = _IN_FRONT
    elif rng.chance(0.2):
        table = _SIDES
        spoken = [_Spoken(placement, rng) for placement in by_page]
    else:
        table = _SAME if same else _DIFFERENT
    return _fill(rng.pick(table[form]), spoken, rng, form)


def _fill(template: str, spoken: list[_Spoken], rng: Rng, form: str) -> str:
    first, last = spoken[0], spoken[-1]
    another = len(spoken) == 2 and first.kind == last.kind
    # Where the verb "is" or "are" precedes, there must be something to do.
    doing = [one.doing if form == "clause" or not one.idle or one.held else "" for one in spoken]
    return template.format(
        a=first.noun(),
        b=last.noun(another=another),
        ma=first.noun(modified=True),
        mb=last.noun(modified=True, another=another),
        do=doing[0],
        doa=doing[0],
        dob=doing[-1],
        list=_listing(spoken, False, rng),
        mlist=_listing(spoken, True, rng),
    )
