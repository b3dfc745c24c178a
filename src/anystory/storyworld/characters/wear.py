"""Neckwear and accessories.

Neck coordinates: (0, 0) is the neck, the torso below it. Torso coordinates: (0, 0) is the hips.
"""

from __future__ import annotations

from anystory.storyworld.characters.heads.faces import Face, eye_centres
from anystory.storyworld.characters.shapes import (
    Layer,
    Layers,
    blob,
    both,
    box,
    curve,
    inside,
    join,
    oval,
    rounded,
)  # fmt: skip


def _scarf() -> Layers:
    tail = rounded([(0.085, 0.05), (0.17, 0.04), (0.205, 0.24), (0.105, 0.26)], 0.02)
    band = blob([(-0.2, 0.0), (0.2, 0.0), (0.22, 0.09), (0.08, 0.13), (-0.08, 0.13), (-0.22, 0.09)])
    return (Layer(tail, "neck dark"), Layer(band, "neck"))


def _bowtie() -> Layers:
    wing = rounded([(0.0, 0.085), (0.125, 0.015), (0.125, 0.165)], 0.025)
    return (Layer(both(wing), "neck"), Layer(box(-0.032, 0.055, 0.032, 0.12, 0.02), "neck dark"))


def _cape() -> Layers:
    collar = blob([(-0.19, 0.01), (0.19, 0.01), (0.2, 0.09), (0.07, 0.115), (-0.07, 0.115), (-0.2, 0.09)])
    return (Layer(collar, "neck"), Layer(oval(0.0, 0.085, 0.03), "neck light", True))


def _necklace() -> Layers:
    beads = [(-0.125, 0.06), (-0.085, 0.1), (-0.035, 0.12), (0.085, 0.1), (0.125, 0.06), (0.035, 0.12)]
    return (Layer(join(*(oval(x, y, 0.03) for x, y in beads)), "neck"), Layer(oval(0.0, 0.14, 0.038), "neck dark"))


NECKWEAR_LAYERS: dict[str, Layers] = {"scarf": _scarf(), "bowtie": _bowtie(), "cape": _cape(), "necklace": _necklace()}

_BAND = NECKWEAR_LAYERS["scarf"][1:]
NECKWEAR_BACK: dict[str, Layers] = {
    "scarf": _BAND,
    "bowtie": (Layer(curve((-0.12, 0.05), (0.0, 0.085), (0.12, 0.05)), "neck", True, 0.035),),
    "cape": NECKWEAR_LAYERS["cape"][:1],
    "necklace": (Layer(curve((-0.12, 0.05), (0.0, 0.09), (0.12, 0.05)), "neck", True, 0.025),),
}
"""Seen from behind."""

_CLOAK = blob(
    [(-0.15, 0.03), (0.15, 0.03), (0.27, 0.25), (0.36, 0.56), (0.12, 0.5), (-0.12, 0.5), (-0.36, 0.56), (-0.27, 0.25)]
)
_CLOAK_SIDE = blob([(-0.06, 0.03), (0.12, 0.03), (0.3, 0.22), (0.46, 0.5), (0.2, 0.54), (-0.02, 0.5)])
CAPE_BACK: dict[bool, Layers] = {False: (Layer(_CLOAK, "neck dark"),), True: (Layer(_CLOAK_SIDE, "neck dark"),)}
"""The cloth that hangs behind the body, by whether the character looks to the side; neck coordinates."""
CAPE_OVER: Layers = (Layer(_CLOAK, "neck"),)
"""The same seen from behind: it covers the body."""

_APRON = rounded([(-0.1, -0.21), (0.1, -0.21), (0.165, -0.08), (0.165, 0.055), (-0.165, 0.055), (-0.165, -0.08)], 0.03)
_POCKET = box(-0.075, -0.045, 0.075, 0.025, 0.015)
BELT: Layers = (
    Layer(box(-0.228, -0.045, 0.228, 0.03, 0.025), "extra"),
    Layer(box(-0.048, -0.055, 0.048, 0.04, 0.012), "extra light", True),
)
APRON: Layers = (Layer(_APRON, "extra", True), Layer(_POCKET, "extra dark", True))
APRON_BACK: Layers = (
    Layer(box(-0.2, -0.055, 0.2, -0.025), "extra", True),
    Layer(join(oval(-0.05, -0.04, 0.05, 0.03, 20.0), oval(0.05, -0.04, 0.05, 0.03, -20.0)), "extra", True),
)
"""Its strings, tied in a bow."""
STRAPS: Layers = (Layer(both(curve((0.115, -0.3), (0.125, -0.12))), "extra", True, 0.042),)
PACK_BEHIND: dict[bool, Layers] = {
    False: (Layer(box(-0.225, -0.3, 0.225, -0.02, 0.06), "extra"),),
    True: (Layer(box(0.08, -0.31, 0.3, -0.02, 0.06), "extra"),),
}
"""The backpack behind the body, by whether the character looks to the side; torso coordinates."""
PACK_OVER: Layers = (
    Layer(box(-0.17, -0.31, 0.17, 0.01, 0.06), "extra"),
    Layer(box(-0.12, -0.13, 0.12, -0.03, 0.03), "extra dark", True),
    Layer(inside(box(-0.3, -0.24, 0.3, -0.2), box(-0.17, -0.31, 0.17, 0.01, 0.06)), "extra light", True),
)
"""The backpack seen from behind."""


def glasses(face: Face, turned: bool) -> Layers:
    """Round rims about the eyes and the bridge between them; head coordinates."""
    left, right = eye_centres(face, turned)
    y, r = face.eye_y, 0.076 * face.eye_size
    rims = join(oval(left, y, r * (0.88 if turned else 1.0), r), oval(right, y, r))
    bridge = curve((left + r * 0.9, y), (right - r * 0.9, y))
    arm = curve((right + r, y), (0.22, y - 0.02)) if turned else both(curve((right + r, y), (0.25, y - 0.02)))
    return (Layer(join(rims, bridge, arm), "extra", True, 0.032),)
