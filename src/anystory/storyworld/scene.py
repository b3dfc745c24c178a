"""Scenes: who stands where, in which place and light. Everything follows from (seed, level, split)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from anystory.storyworld.appearance import Appearance, sample_appearance
from anystory.storyworld.brush import STYLES
from anystory.storyworld.captions import caption
from anystory.storyworld.characters import hand_positions
from anystory.storyworld.identity import Identity, Proportions, sample_identity
from anystory.storyworld.level import Level, load_level
from anystory.storyworld.places import LIGHTS, get_place
from anystory.storyworld.rng import Rng, stream

SPLITS = ("train", "heldout")
ARRANGEMENTS = ("alone", "apart", "overlapping", "in_front", "holding_hands")
_ARRANGEMENT_WEIGHTS = {"apart": 6, "overlapping": 2, "in_front": 1, "holding_hands": 1}
_SAME_KIND = 0.15
_COUNT_WEIGHTS = {2: (35, 65), 3: (30, 50, 20), 4: (25, 45, 20, 10)}
"""How often scenes have 1, 2, ... characters, by the most that the level allows."""
_BASE_HEIGHTS = {1: (0.54, 0.68), 2: (0.52, 0.63), 3: (0.38, 0.48), 4: (0.33, 0.42)}
"""Standing height, in picture heights, at middle depth, by the number of characters."""
_HAND_POSES = ("standing", "walking")


@dataclass(frozen=True, kw_only=True)
class Placement:
    """One character in a scene.

    Raises:
        ValueError: height or depth out of range.
    """

    identity: Identity
    appearance: Appearance
    x: float
    """Middle of the feet, 0 (left edge) to 1 (right edge)."""
    y: float
    """Ground line of the feet, 0 (top edge) to 1 (bottom edge)."""
    height: float
    """Standing height without headwear, in picture heights."""
    depth: float
    """0 (far) to 1 (near): nearer characters are lower, larger and drawn later."""

    def __post_init__(self) -> None:
        if not 0.0 < self.height <= 2.0:
            raise ValueError(f"a placement's height lies in (0, 2] picture heights, got {self.height!r}")
        if not 0.0 <= self.depth <= 1.0:
            raise ValueError(f"a placement's depth lies in 0..1, got {self.depth!r}")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A complete picture as data: `render_scene` draws it, `to_dict` makes it JSON.

    Raises:
        ValueError: an unknown place, light, style or arrangement, or not 1 to 4 placements.
    """

    seed: int
    level: str
    split: str
    decor: str
    """Names the random stream of the place's details (where the sun, the trees and the flowers are)."""
    place: str
    light: str
    style: str
    arrangement: str
    """How the characters stand together: one of `ARRANGEMENTS`."""
    placements: tuple[Placement, ...]
    """1 to 4 characters, from left to right."""
    caption: str = ""

    def __post_init__(self) -> None:
        get_place(self.place)
        for name, known in (
            ("light", LIGHTS),
            ("style", STYLES),
            ("arrangement", ARRANGEMENTS),
            ("split", SPLITS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}: it is one of {', '.join(known)}")
        if not 1 <= len(self.placements) <= 4:
            raise ValueError(f"a scene has 1 to 4 placements, got {len(self.placements)}")

    def to_dict(self) -> dict[str, Any]:
        """Return the scene as JSON-ready dicts, lists, strings and numbers."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Scene:
        """Return the scene that `to_dict` (also through JSON) described; a ValueError says what is wrong."""
        try:
            placements = tuple(_placement(item) for item in data["placements"])
            return cls(**{**data, "placements": placements})
        except KeyError as error:
            raise ValueError(f"not a scene record: it lacks {error}") from None
        except TypeError as error:
            raise ValueError(f"not a scene record: {error}") from None


def _placement(data: Mapping[str, Any]) -> Placement:
    identity, appearance = dict(data["identity"]), dict(data["appearance"])
    identity["proportions"] = Proportions(**identity["proportions"])
    if appearance.get("reach") is not None:
        appearance["reach"] = tuple(None if hand is None else tuple(hand) for hand in appearance["reach"])
    return Placement(**{**data, "identity": Identity(**identity), "appearance": Appearance(**appearance)})


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
    return _compose(f"{level.name}/{split}/{seed}", seed, level, split, identities)


@dataclass(frozen=True, kw_only=True)
class ScenePair:
    """The same identities in two contexts, and as references of their own."""

    a: Scene
    b: Scene
    references: tuple[Appearance, ...]
    """How identity i of both scenes looks on its own canvas: independent of how it looks in them."""


def sample_pair(seed: int, level: Level | str | int = 1, split: str = "train") -> ScenePair:
    """Return pair `seed`: the same identities with independent poses, views, places, light and style.

    `a.placements[i]`, `b.placements[i]` need not be the same character (placements run from left to right);
    `references[i]` belongs to `a.placements[i].identity`.
    """
    level = level if isinstance(level, Level) else load_level(level)
    identities = _sample_identities(stream(level.name, split, seed, "pair/identities"), level, split)
    key = f"{level.name}/{split}/{seed}/pair"
    a = _compose(f"{key}/a", seed, level, split, identities)
    b = _compose(f"{key}/b", seed, level, split, identities)
    rng = stream(key, "references")
    return ScenePair(a=a, b=b, references=tuple(sample_appearance(rng, level) for _ in identities))


def _sample_identities(rng: Rng, level: Level, split: str) -> list[Identity]:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: it is one of {', '.join(SPLITS)}")
    count = 1 if level.max_characters == 1 else 1 + _weighted(rng, _COUNT_WEIGHTS[level.max_characters])
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


def _compose(key: str, seed: int, level: Level, split: str, identities: Sequence[Identity]) -> Scene:
    rng = stream(key, "scene")
    arrangement = "alone"
    if len(identities) > 1:
        weights = [_ARRANGEMENT_WEIGHTS.get(name, 1) for name in level.arrangements]
        arrangement = level.arrangements[_weighted(rng, weights)]
    placements = _arrange(rng, level, arrangement, rng.shuffle(identities))
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


def _arrange(rng: Rng, level: Level, arrangement: str, identities: Sequence[Identity]) -> list[Placement]:
    """Place the characters from left to right."""
    count = len(identities)
    base = rng.uniform(*_BASE_HEIGHTS[count])
    xs = _columns(rng, arrangement, count)
    depths = _depths(rng, arrangement, count)
    low, rise = (0.85, 0.09) if count < 3 else (0.79, 0.15)
    growth = 0.18 if count < 3 else 0.36
    placements = []
    for identity, x, depth in zip(identities, xs, depths, strict=True):
        stature = rng.uniform(0.95, 1.05)
        appearance = sample_appearance(rng, level)
        if arrangement == "holding_hands":
            poses = [pose for pose in _HAND_POSES if pose in level.poses] or [level.poses[0]]
            appearance = replace(appearance, pose=rng.pick(poses), view="front", held="none")
        if appearance.pose == "lying":
            # Somebody who lies is wide and low: in front of the others, and whole.
            depth = max(depth, 0.9)
            stature *= 0.85
        height = base * (1 + growth * (depth - 0.5)) * stature
        if appearance.pose == "lying":
            x = min(max(x, 0.6 * height), 1 - 0.6 * height)
        placements.append(
            Placement(
                identity=identity,
                appearance=appearance,
                x=x,
                y=low + rise * depth,
                height=height,
                depth=depth,
            )
        )
    if arrangement == "holding_hands":
        return join_hands(placements)
    return sorted(placements, key=lambda placement: placement.x)


def _columns(rng: Rng, arrangement: str, count: int) -> list[float]:
    """Where on the page each character stands, from left to right."""
    if count == 1:
        return [rng.uniform(0.36, 0.64)]
    if arrangement == "apart":
        gap = {2: 0.46, 3: 0.31, 4: 0.245}[count] * rng.uniform(0.92, 1.06)
    elif arrangement == "overlapping":
        gap = {2: 0.32, 3: 0.23, 4: 0.19}[count] * rng.uniform(0.9, 1.1)
    elif arrangement == "in_front":
        gap = {2: 0.27, 3: 0.24, 4: 0.2}[count] * rng.uniform(0.9, 1.1)
    else:
        gap = {2: 0.34, 3: 0.27, 4: 0.22}[count]
    middle = rng.uniform(0.47, 0.53)
    return [middle + gap * (i - (count - 1) / 2) + rng.uniform(-0.02, 0.02) for i in range(count)]


def _depths(rng: Rng, arrangement: str, count: int) -> list[float]:
    if arrangement == "in_front":
        # Every second one steps forward.
        forward = rng.integer(0, 1)
        return [rng.uniform(0.8, 1.0) if i % 2 == forward else rng.uniform(0.0, 0.2) for i in range(count)]
    if arrangement == "holding_hands":
        depth = rng.uniform(0.3, 0.7)
        return [depth + 0.02 * i for i in range(count)]
    return [rng.uniform(0.25, 0.8) for _ in range(count)]


def join_hands(placements: Sequence[Placement]) -> list[Placement]:
    """Return the placements with every neighbouring pair of hands touching (from left to right).

    Neighbours whose arms are too short are moved together first.
    """
    joined = list(placements)
    for i in range(len(joined) - 1):
        for _ in range(2):
            joined[i], joined[i + 1] = _clasp(joined[i], joined[i + 1])
            gap = _hand(joined[i + 1], 0)[0] - _hand(joined[i], 1)[0]
            if abs(gap) < 0.01:
                break
            # Only the right one moves: the left one may already hold its other neighbour's hand.
            joined[i + 1] = replace(joined[i + 1], x=joined[i + 1].x - gap)
    shift = 0.5 - (joined[0].x + joined[-1].x) / 2
    return [replace(placement, x=placement.x + shift) for placement in joined]


def _hand(placement: Placement, side: int) -> tuple[float, float]:
    hands = hand_positions(
        placement.identity, placement.appearance, x=placement.x, y=placement.y, height=placement.height
    )
    return hands[side]


def _clasp(left: Placement, right: Placement) -> tuple[Placement, Placement]:
    """Let the page-right hand of `left` and the page-left hand of `right` aim at one point between them."""
    x = (left.x + right.x) / 2
    y = (left.y + right.y) / 2 - 0.36 * (left.height + right.height) / 2
    return _aim(left, 1, x, y), _aim(right, 0, x, y)


def _aim(placement: Placement, side: int, x: float, y: float) -> Placement:
    target = ((x - placement.x) / placement.height, (y - placement.y) / placement.height)
    other = placement.appearance.reach[1 - side] if placement.appearance.reach else None
    reach = (target, other) if side == 0 else (other, target)
    return replace(placement, appearance=replace(placement.appearance, reach=reach))
