"""Torsos, tails and limbs of every kind.

Torso coordinates: the hips are (0, 0), the neck of a usual torso is (0, -TORSO). Front views and views to the left
share the art; a tail shows on the page's right.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import skia

from anystory.storyworld.characters.shapes import Layer, Layers, blob, box, curve, inside, join, oval, poly, rounded

_PEAR = blob(
    [(-0.11, -0.37), (0.11, -0.37), (0.2, -0.2), (0.25, 0.05), (0.1, 0.075), (-0.1, 0.075), (-0.25, 0.05), (-0.2, -0.2)]
)
_EGG = blob(
    [(-0.12, -0.4), (0.12, -0.4), (0.25, -0.2), (0.28, 0.06), (0.1, 0.11), (-0.1, 0.11), (-0.28, 0.06), (-0.25, -0.2)]
)
_CASE = box(-0.19, -0.32, 0.19, 0.055, 0.055)
_FROG = blob([
    (-0.13, -0.36), (0.13, -0.36), (0.22, -0.2), (0.27, 0.03), (0.12, 0.08), (-0.12, 0.08), (-0.27, 0.03),
    (-0.22, -0.2),
])  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Body:
    """The art below the neck of one kind. Colours are roles of the look."""

    torso: skia.Path = field(default_factory=lambda: _PEAR)
    under: Layers = ()
    """Drawn on the torso below the pattern (a penguin's white belly)."""
    tail: Layers = ()
    arm: str = "limb"
    hand: str = "dark"
    arm_width: float = 0.095
    hand_radius: float = 0.056
    """0: the arm has no hand (a flipper)."""
    leg: str = "limb"
    foot: str = "dark"
    leg_width: float = 0.125
    foot_length: float = 0.085
    """Half of it."""
    far_leg: str = "far"
    far_foot: str = "dark"
    far_arm: str = "far"


_FOX_TAIL = blob(
    [(0.06, 0.04), (0.06, -0.06), (0.3, 0.08), (0.28, -0.3), (0.44, -0.42), (0.52, -0.12), (0.46, 0.1), (0.28, 0.16)]
)
_MOUTH_WHITE = blob(
    [(-0.09, -0.36), (0.09, -0.36), (0.19, -0.18), (0.2, 0.04), (0.0, 0.09), (-0.2, 0.04), (-0.19, -0.18)]
)

_CAT_TAIL = curve((0.1, 0.0), (0.42, 0.12), (0.28, -0.14), (0.42, -0.25))
_CAT_TIP = curve((0.4, -0.19), (0.42, -0.25))
_MOUSE_TAIL = curve((0.1, 0.0), (0.36, 0.16), (0.3, -0.16), (0.48, -0.12))
_DRAGON_TAIL = blob([(0.0, -0.16), (0.2, -0.08), (0.34, 0.0), (0.5, -0.2), (0.5, 0.1), (0.3, 0.16), (0.0, 0.08)])
_DRAGON_SPIKES = join(
    poly([(0.2, -0.04), (0.3, -0.16), (0.34, 0.02)]), poly([(0.36, 0.0), (0.36, -0.13), (0.46, -0.04)])
)

BODIES: dict[str, Body] = {
    "fox": Body(
        tail=(Layer(_FOX_TAIL, "limb"), Layer(inside(oval(0.46, -0.34, 0.16, 0.17), _FOX_TAIL), "secondary", True))
    ),
    "bear": Body(
        tail=(Layer(oval(0.2, 0.01, 0.06), "dark"),),
        arm_width=0.11,
        hand_radius=0.062,
        leg_width=0.14,
        foot_length=0.09,
    ),
    "rabbit": Body(tail=(Layer(oval(0.215, 0.005, 0.075), "secondary"),), foot_length=0.1),
    "robot": Body(
        torso=_CASE,
        arm="metal",
        far_arm="metal far",
        leg="metal",
        far_leg="metal far",
        hand="limb",
        foot="limb",
        far_foot="far",
        arm_width=0.07,
        hand_radius=0.062,
        leg_width=0.085,
        foot_length=0.095,
    ),
    "penguin": Body(
        torso=_EGG,
        under=(Layer(_MOUTH_WHITE, "paper", True),),
        tail=(Layer(rounded([(0.1, -0.04), (0.29, 0.1), (0.08, 0.1)], 0.03), "dark"),),
        arm_width=0.105,
        hand_radius=0.0,
        leg="beak",
        foot="beak",
        far_leg="beak far",
        far_foot="beak far",
        leg_width=0.085,
        foot_length=0.095,
    ),
    "frog": Body(torso=_FROG, arm_width=0.08, hand_radius=0.064, leg_width=0.12, foot_length=0.115),
    "cat": Body(tail=(Layer(_CAT_TAIL, "limb", False, 0.075), Layer(_CAT_TIP, "secondary", True, 0.077))),
    "mouse": Body(tail=(Layer(_MOUSE_TAIL, "blush", False, 0.035),), arm_width=0.085, leg_width=0.11),
    "owl": Body(
        torso=_EGG,
        under=(Layer(oval(0.0, -0.1, 0.16, 0.17), "pale", True),),
        tail=(Layer(rounded([(0.08, -0.06), (0.31, 0.11), (0.06, 0.11)], 0.03), "dark"),),
        arm_width=0.125,
        hand_radius=0.0,
        leg="beak",
        foot="beak",
        far_leg="beak far",
        far_foot="beak far",
        leg_width=0.07,
        foot_length=0.085,
    ),
    "dragon": Body(
        torso=_FROG,
        under=(Layer(inside(oval(0.0, -0.1, 0.13, 0.2), _FROG), "pale", True),),
        tail=(Layer(_DRAGON_SPIKES, "accent"), Layer(_DRAGON_TAIL, "limb")),
        arm_width=0.09,
        leg_width=0.14,
    ),
    "elephant": Body(
        torso=_EGG,
        tail=(Layer(curve((0.18, -0.05), (0.3, -0.02), (0.33, 0.1)), "dark", False, 0.03),),
        arm_width=0.12,
        hand="limb",
        hand_radius=0.064,
        leg_width=0.15,
        foot="limb",
        foot_length=0.085,
    ),
    "snowman": Body(
        torso=_EGG,
        under=(Layer(join(oval(0.0, -0.215, 0.026), oval(0.0, -0.02, 0.026)), "ink", True),),
        arm="wood",
        far_arm="wood far",
        hand="wood",
        arm_width=0.05,
        hand_radius=0.045,
        leg_width=0.15,
        foot_length=0.1,
    ),
    "child": Body(hand="skin", hand_radius=0.052, foot="secondary", far_foot="secondary dark"),
    "lion": Body(
        tail=(Layer(_CAT_TAIL, "limb", False, 0.055), Layer(oval(0.42, -0.27, 0.085), "secondary")),
        arm_width=0.1,
        hand_radius=0.06,
    ),
}
"""Kind -> body."""
