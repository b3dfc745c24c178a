"""Poses: where the joints of a character are, by pose, view and proportions.

Coordinates: the feet stand at (0, 0), the crown of the head of a standing character is at (0, -1), y downwards.
The skeleton of a side view looks to the page's left; "right" is its mirror image, made by the caller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from anystory.storyworld.appearance import Appearance, Point, Reach
from anystory.storyworld.identity import Proportions

HEAD_RADIUS = 0.23
"""Half the height of a usual head."""
TORSO = 0.33
"""Height of the usual torso, from the hips to the neck: torsos are drawn for it and then scaled."""
UPPER_ARM = LOWER_ARM = 0.145
ARM_WIDTH = 0.095
LEG_WIDTH = 0.125

_LEG = 0.26
_CHIN = 0.05
"""How far the head reaches down over the torso."""
_ANKLE = 0.068
"""Height of the ankle above the sole."""
_LOWEST_HIP = 0.075

Limb = tuple[Point, Point, Point]


@dataclass(frozen=True)
class Pose:
    """Joint angles in degrees from straight down: positive is outwards (front) or forwards (side).

    An arm is (upper, lower); a leg (upper, lower, length), where a length below 1 is a leg that points at us or away.
    From the front the order is page-left, page-right; from the side far, near.
    """

    arms: tuple[tuple[float, float], tuple[float, float]]
    legs: tuple[tuple[float, float, float], tuple[float, float, float]]
    lean: float = 0.0
    """Upper body, in degrees, clockwise on the page."""
    tilt: float = 0.0
    """Head against the upper body, in degrees, clockwise on the page."""
    lift: float = 0.0
    """Feet above the ground, in units of height."""
    roll: float = 0.0
    """The whole body, in degrees, clockwise: lying."""


@dataclass(frozen=True)
class Skeleton:
    """Joints of one pose; see the module for the coordinates."""

    side: bool
    hips: Point
    lean: float
    torso: float
    """Height of the torso in units of its usual height."""
    head: Point
    head_angle: float
    arms: tuple[Limb, Limb]
    """(shoulder, elbow, hand) each: page-left and page-right, or far and near from the side."""
    legs: tuple[Limb, Limb]
    """(hip, knee, ankle) each."""
    seated: bool
    roll: float
    shift: Point
    """Added after the roll."""


_HANG = (24.0, 8.0)
_STAND = (4.0, 1.0, 1.0)

_HOLD = (42.0, 74.0)
"""The arm that holds something keeps it away from body and face."""
_BUSY = ("waving", "pointing")
"""Poses that need the second arm: things are held in the first."""

_FRONT: dict[str, Pose] = {
    "standing": Pose((_HANG, _HANG), (_STAND, _STAND)),
    "waving": Pose((_HANG, (98.0, 158.0)), (_STAND, _STAND), tilt=-5.0),
    "walking": Pose(((62.0, 44.0), (16.0, -4.0)), ((8.0, 2.0, 1.0), (26.0, -6.0, 0.66)), lean=-3.0, tilt=-3.0),
    "sitting": Pose(((36.0, 12.0), (36.0, 12.0)), ((58.0, 66.0, 0.95), (58.0, 66.0, 0.95))),
    "running": Pose(((66.0, 128.0), (10.0, -86.0)), ((10.0, 4.0, 1.0), (30.0, -24.0, 0.5)), lean=-7.0, lift=0.03),
    "jumping": Pose(((112.0, 128.0), (112.0, 128.0)), ((48.0, -30.0, 0.85), (48.0, -30.0, 0.85)), lift=0.15),
    "cheering": Pose(((104.0, 152.0), (104.0, 152.0)), ((9.0, 4.0, 1.0), (9.0, 4.0, 1.0))),
    "dancing": Pose(((96.0, 150.0), (66.0, 10.0)), ((4.0, 0.0, 1.0), (52.0, 10.0, 1.0)), lean=7.0, tilt=8.0),
    "lying": Pose(((20.0, 12.0), (34.0, 20.0)), ((5.0, 2.0, 1.0), (9.0, 6.0, 1.0)), roll=-90.0),
    "pointing": Pose((_HANG, (86.0, 92.0)), (_STAND, _STAND), tilt=4.0),
}

_SIDE: dict[str, Pose] = {
    "standing": Pose(((14.0, 12.0), (-14.0, 2.0)), ((5.0, 2.0, 1.0), (-5.0, -2.0, 1.0))),
    "waving": Pose(((10.0, 14.0), (-104.0, -150.0)), ((5.0, 2.0, 1.0), (-5.0, -2.0, 1.0))),
    "walking": Pose(((46.0, 72.0), (-44.0, -24.0)), ((34.0, 12.0, 1.0), (-24.0, -42.0, 1.0)), lean=-4.0),
    "sitting": Pose(((52.0, 64.0), (-8.0, 36.0)), ((86.0, 84.0, 1.0), (82.0, 88.0, 1.0))),
    "running": Pose(((-66.0, -10.0), (44.0, 112.0)), ((62.0, 0.0, 1.0), (-38.0, -96.0, 1.0)), lean=-12.0, lift=0.03),
    "jumping": Pose(((100.0, 122.0), (-92.0, -120.0)), ((52.0, -30.0, 0.9), (-6.0, -70.0, 0.9)), lean=-6.0, lift=0.15),
    "cheering": Pose(((106.0, 136.0), (-104.0, -150.0)), ((8.0, 2.0, 1.0), (-8.0, -2.0, 1.0))),
    "dancing": Pose(((100.0, 150.0), (-56.0, -14.0)), ((54.0, 14.0, 1.0), (-4.0, -2.0, 1.0)), lean=7.0),
    "lying": Pose(((6.0, 10.0), (14.0, 18.0)), ((4.0, 2.0, 1.0), (-2.0, -2.0, 1.0)), roll=90.0),
    "pointing": Pose(((8.0, 12.0), (86.0, 92.0)), ((5.0, 2.0, 1.0), (-5.0, -2.0, 1.0))),
}


def _turn(point: Point, degrees: float, about: Point = (0.0, 0.0)) -> Point:
    """`point` turned clockwise on the page."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = point[0] - about[0], point[1] - about[1]
    return about[0] + x * c - y * s, about[1] + x * s + y * c


def _step(start: Point, degrees: float, length: float, outward: float) -> Point:
    angle = math.radians(degrees)
    return start[0] + outward * math.sin(angle) * length, start[1] + math.cos(angle) * length


def _lowered(limb: Limb, dy: float) -> Limb:
    (x0, y0), (x1, y1), (x2, y2) = limb
    return (x0, y0 + dy), (x1, y1 + dy), (x2, y2 + dy)


def _bend(shoulder: Point, target: Point, outward: float) -> Limb:
    """Two-bone inverse kinematics: the elbow bends downwards, or outwards for a vertical arm."""
    dx, dy = target[0] - shoulder[0], target[1] - shoulder[1]
    distance = math.hypot(dx, dy)
    if distance < 1e-6:
        dx, dy, distance = 0.0, 1e-6, 1e-6
    # never quite straight and never quite folded: the elbow keeps its side
    reach = min(max(distance, 0.06), (UPPER_ARM + LOWER_ARM) * 0.999)
    hand = (shoulder[0] + dx / distance * reach, shoulder[1] + dy / distance * reach)
    along = (UPPER_ARM**2 - LOWER_ARM**2 + reach**2) / (2 * reach)
    aside = math.sqrt(max(0.0, UPPER_ARM**2 - along**2))
    nx, ny = -dy / distance, dx / distance
    if ny < -1e-3 or (abs(ny) <= 1e-3 and nx * outward < 0):
        nx, ny = -nx, -ny
    elbow = (shoulder[0] + dx / distance * along + nx * aside, shoulder[1] + dy / distance * along + ny * aside)
    return shoulder, elbow, hand


def skeleton(proportions: Proportions, appearance: Appearance) -> Skeleton:
    """The joints of a character; a view to the right gets the skeleton of the view to the left."""
    side = appearance.view in ("left", "right")
    bones = _skeleton(proportions, appearance.pose, side, holding_arm(appearance))
    return bones if appearance.reach is None else _reaching(bones, _targets(appearance))


def holding_arm(appearance: Appearance) -> int | None:
    """Which arm of the skeleton holds something: preferably one that the pose and `reach` leave free."""
    if appearance.held == "none":
        return None
    # the far arm from the side: what it holds is seen beyond the body, not on top of it
    arm = 0 if appearance.view in ("left", "right") or appearance.pose in _BUSY else 1
    targets = _targets(appearance)
    return 1 - arm if targets[arm] is not None and targets[1 - arm] is None else arm


def _targets(appearance: Appearance) -> Reach:
    """The targets of `reach` by arm of the skeleton."""
    reach = appearance.reach or (None, None)
    if appearance.view != "right":
        return reach
    # the caller mirrors the page: so do the targets, and the page-left hand becomes the other one
    left, right = (None if point is None else (-point[0], point[1]) for point in reach)
    return right, left


@lru_cache(maxsize=2048)
def _skeleton(proportions: Proportions, pose_name: str, side: bool, holding: int | None) -> Skeleton:
    pose = (_SIDE if side else _FRONT)[pose_name]
    leg = _LEG * proportions.legs
    head_radius = HEAD_RADIUS * proportions.head
    torso = 1.0 + _CHIN - 2 * head_radius - leg
    bone = (leg - _ANKLE + 0.02) / 2

    outward = (-1.0, -1.0) if side else (-1.0, 1.0)
    hip_x = (-0.015, 0.02) if side else (-0.09 * proportions.width, 0.09 * proportions.width)
    legs: list[Limb] = []
    for (upper, lower, length), x, out in zip(pose.legs, hip_x, outward, strict=True):
        knee = _step((x, 0.0), upper, bone * length, out)
        legs.append(((x, 0.0), knee, _step(knee, lower, bone * length, out)))
    hip_height = max(_LOWEST_HIP, *(limb[2][1] + _ANKLE for limb in legs)) - 0.02
    hip = (0.0, -hip_height - pose.lift)

    neck = _turn((hip[0], hip[1] - torso), pose.lean, hip)
    head_angle = pose.lean * 0.5 + pose.tilt
    head = _turn((neck[0], neck[1] + _CHIN - head_radius), head_angle, neck)
    shoulder_x = (-0.06, 0.075) if side else (-0.135 * proportions.width, 0.135 * proportions.width)
    arms: list[Limb] = []
    for i, ((upper, lower), x, out) in enumerate(zip(pose.arms, shoulder_x, outward, strict=True)):
        if i == holding:
            upper, lower = _HOLD
        shoulder = _turn((x, hip[1] - torso + 0.095), pose.lean, hip)
        elbow = _step(shoulder, upper, UPPER_ARM, out)
        arms.append((shoulder, elbow, _step(elbow, lower, LOWER_ARM, out)))

    shift = (0.0, 0.0)
    if pose.roll:
        # lying: centred on the feet's place, resting on half the width of the head
        shift = (math.copysign(0.5, -pose.roll), -0.25 * proportions.head)
    return Skeleton(
        side=side,
        hips=hip,
        lean=pose.lean,
        torso=torso / TORSO,
        head=head,
        head_angle=head_angle,
        arms=(arms[0], arms[1]),
        legs=(_lowered(legs[0], hip[1]), _lowered(legs[1], hip[1])),
        seated=pose_name == "sitting",
        roll=pose.roll,
        shift=shift,
    )


def _reaching(bones: Skeleton, reach: Reach) -> Skeleton:
    arms = list(bones.arms)
    for i, target in enumerate(reach):
        if target is None:
            continue
        if bones.roll:
            target = _turn((target[0] - bones.shift[0], target[1] - bones.shift[1]), -bones.roll)
        arms[i] = _bend(arms[i][0], target, -1.0 if i == 0 or bones.side else 1.0)
    return Skeleton(**{**bones.__dict__, "arms": tuple(arms)})


def to_page(bones: Skeleton, point: Point, mirror: bool) -> Point:
    """A point of the skeleton after roll, shift and mirroring: relative to the feet, in units of height."""
    if bones.roll:
        x, y = _turn(point, bones.roll)
        point = (x + bones.shift[0], y + bones.shift[1])
    return (-point[0], point[1]) if mirror else point
