"""Further groups of cases, each hard in one way: many characters, look-alikes, far references, long prompts, one place.

Each case is a function of group, number, level and split alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from anystory.evaluation.storyworld.cases import Case, make_case
from anystory.storyworld.appearance import Appearance, sample_appearance
from anystory.storyworld.identity import Identity, is_heldout, sample_identity
from anystory.storyworld.language.captions import caption, long_caption
from anystory.storyworld.level import Level, load_level
from anystory.storyworld.palette import contrasting
from anystory.storyworld.rng import Rng, stream
from anystory.storyworld.sampling import compose_scene
from anystory.storyworld.scene import SPLITS, Scene

__all__ = ["EXTENDED", "draw_groups", "group_scene", "parse_groups"]

_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
_APART = 100_000
"""What indices of one group are from those of the next: a case's noise does not depend on the groups chosen."""
_WORN = ("headwear", "neckwear", "accessory")

EXTENDED = {
    **{name: f"{name} of different kinds" for name in _NUMBERS},
    "same-kind": "two of one kind, otherwise different",
    "same-colours": "two that differ in their pattern only",
    "one-wear": "two that differ in one piece of wear only",
    "far": "references in another pose and another view than the scene's",
    "long": "prompts that say everything several times",
    "place": "the same place twice, on shared noise",
    "place-apart": "the same, each on noise of its own",
}
"""Group -> what its cases are."""


def parse_groups(text: str) -> list[str]:
    """`"five,far"`, or `"all"`, as groups in the table's order.

    Raises:
        ValueError: an unknown group.
    """
    names = {name.strip() for name in text.split(",")} - {""}
    if names == {"all"}:
        return list(EXTENDED)
    if (unknown := names - EXTENDED.keys()) or not names:
        wrong = ", ".join(sorted(unknown)) or "none is named"
        raise ValueError(f"--groups: no group {wrong}: choose from all, {', '.join(EXTENDED)}")
    return [name for name in EXTENDED if name in names]


def draw_groups(
    groups: Sequence[str], number: int, *, level: Level | str | int, split: str, size: int, picture: int | None = None
) -> Iterator[Case]:
    """The first cases of each group.

    Args:
        groups: of `EXTENDED`.
        number: of cases in each group.
        size, picture: see `cases.draw_cases`.

    Raises:
        ValueError: no case, an unknown split or level, or a level with too few kinds, patterns, poses or views.
    """
    level = level if isinstance(level, Level) else load_level(level)
    if number < 1 or split not in SPLITS:
        expected = f"at least 1 case and one of the splits {', '.join(SPLITS)}"
        raise ValueError(f"groups need {expected}, got {number} cases of {split!r}")
    most = max((_NUMBERS.get(group, 2) for group in groups), default=1)
    if len(level.kinds) < most or min(len(level.patterns), len(level.poses), len(level.views)) < 2:
        raise ValueError(f"{level.name} has too few kinds, patterns, poses or views for these groups: choose another")
    for group in groups:
        for index in range(number):
            scene, references = group_scene(group, index, level, split)
            yield make_case(
                index=_APART * list(EXTENDED).index(group) + index,
                group=group,
                scene=scene,
                references=references,
                style=scene.style,
                level=level,
                size=size,
                picture=picture or size,
                background=index // 2 if group == "place" else None,
                pair=index // 2 if group.startswith("place") else None,
            )


def group_scene(group: str, index: int, level: Level, split: str) -> tuple[Scene, list[Appearance]]:
    """A case's scene, and how each of its characters looks in its reference."""
    name = group.removesuffix("-apart")
    rng, key = stream(level.name, split, "group", name, index), f"{level.name}/{split}/group/{name}/{index}"
    scene = compose_scene(key, index, level, split, _identities(group, index, rng, level, split))
    if group == "long":
        scene = replace(scene, caption=long_caption(scene, stream(key, "long")))
    if group.startswith("place"):
        scene = _in_place(scene, index // 2, level, split)
    shown = [placement.appearance for placement in scene.placements]
    return scene, [_far(rng, level, one) if group == "far" else sample_appearance(rng, level) for one in shown]


def _in_place(scene: Scene, pair: int, level: Level, split: str) -> Scene:
    """The scene in the place that it shares with its neighbour: place, light and details."""
    rng = stream(level.name, split, "group", "places", pair)
    place, light = rng.pick(level.places), rng.pick(level.lights)
    scene = replace(scene, place=place, light=light, decor=f"{level.name}/places/{pair}")
    return replace(scene, caption=caption(scene, stream(scene.level, split, "group", "said", pair, scene.seed)))


def _far(rng: Rng, level: Level, shown: Appearance) -> Appearance:
    """An appearance of another pose and another view."""
    while True:
        found = sample_appearance(rng, level)
        if found.pose != shown.pose and found.view != shown.view:
            return found


def _identities(group: str, index: int, rng: Rng, level: Level, split: str) -> list[Identity]:
    heldout = split == "heldout"
    if group == "same-kind":
        return _pair(rng, level, heldout, lambda one: sample_identity(rng, level, heldout=heldout, kind=one.kind))
    if group == "same-colours":
        return _pair(rng, level, heldout, lambda one: replace(one, pattern=rng.pick(level.patterns)))
    if group == "one-wear":
        return _pair(rng, level, heldout, lambda one: _other_wear(rng, level, one))
    count = _NUMBERS.get(group, 1 + index % 2)
    kinds = rng.shuffle(list(level.kinds))[:count]
    return [sample_identity(rng, level, heldout=heldout, kind=kind) for kind in kinds]


def _pair(rng: Rng, level: Level, heldout: bool, change: Callable[[Identity], Identity]) -> list[Identity]:
    """Two identities of the split, the second one made from the first."""
    while True:
        first = sample_identity(rng, level, heldout=heldout)
        for _ in range(32):  # about one change in sixteen is held out; the others would be training's
            second = change(first)
            if second != first and is_heldout(second) == heldout:
                return [first, second]


def _other_wear(rng: Rng, level: Level, one: Identity) -> Identity:
    """The same with one piece of wear put on, taken off or changed for another."""
    worn = rng.pick(_WORN)
    items = {"headwear": level.headwear, "neckwear": level.neckwear, "accessory": level.accessories}[worn]
    item = rng.pick([name for name in ("none", *items) if name != getattr(one, worn)])
    colour = getattr(one, f"{worn}_colour") or rng.pick(contrasting(level.colours, one.primary))
    return replace(one, **{worn: item, f"{worn}_colour": "" if item == "none" else colour})
