"""How the characters of a scene stand together: apart, overlapping, one in front of another, hand in hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from anystory.storyworld.appearance import sample_appearance
from anystory.storyworld.characters import hand_positions
from anystory.storyworld.identity import Identity
from anystory.storyworld.level import Level
from anystory.storyworld.rng import Rng
from anystory.storyworld.scene import Placement

_BASE_HEIGHTS = {1: (0.54, 0.68), 2: (0.52, 0.63), 3: (0.38, 0.48), 4: (0.33, 0.42), 5: (0.28, 0.36)}
"""Standing height, in picture heights, at middle depth, by the number of characters."""
_HAND_POSES = ("standing", "walking")


def arrange(rng: Rng, level: Level, arrangement: str, identities: Sequence[Identity]) -> list[Placement]:
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
            Placement(identity=identity, appearance=appearance, x=x, y=low + rise * depth, height=height, depth=depth)
        )
    if arrangement == "holding_hands":
        return join_hands(placements)
    return sorted(placements, key=lambda placement: placement.x)


def _columns(rng: Rng, arrangement: str, count: int) -> list[float]:
    """Where on the page each character stands, from left to right."""
    if count == 1:
        return [rng.uniform(0.36, 0.64)]
    if arrangement == "apart":
        gap = {2: 0.46, 3: 0.31, 4: 0.245, 5: 0.2}[count] * rng.uniform(0.92, 1.06)
    elif arrangement == "overlapping":
        gap = {2: 0.32, 3: 0.23, 4: 0.19, 5: 0.165}[count] * rng.uniform(0.9, 1.1)
    elif arrangement == "in_front":
        gap = {2: 0.27, 3: 0.24, 4: 0.2, 5: 0.175}[count] * rng.uniform(0.9, 1.1)
    else:
        gap = {2: 0.34, 3: 0.27, 4: 0.22, 5: 0.185}[count]
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
