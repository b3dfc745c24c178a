"""Hats. The middle of the brim is (0, 0); a hat is as wide as a usual head wants it."""

from __future__ import annotations

from anystory.storyworld.characters.shapes import (
    Layer,
    Layers,
    blob,
    both,
    box,
    inside,
    join,
    oval,
    poly,
    rounded,
    star,
)  # fmt: skip


def _tophat() -> Layers:
    return (
        Layer(rounded([(-0.13, 0.0), (-0.145, -0.27), (0.145, -0.27), (0.13, 0.0)], 0.02), "hat"),
        Layer(box(-0.134, -0.085, 0.134, -0.02), "hat light", True),
        Layer(box(-0.22, -0.03, 0.22, 0.03, 0.03), "hat"),
    )


def _crown() -> Layers:
    crown = poly(
        [(-0.17, 0.035), (-0.19, -0.17), (-0.09, -0.07), (0.0, -0.2), (0.09, -0.07), (0.19, -0.17), (0.17, 0.035)]
    )
    gems = join(oval(0.0, -0.02, 0.03), oval(-0.1, -0.015, 0.022), oval(0.1, -0.015, 0.022))
    return (Layer(crown, "hat"), Layer(gems, "hat dark", True))


def _beanie() -> Layers:
    dome = blob([(-0.24, 0.05), (-0.22, -0.19), (-0.08, -0.21), (0.08, -0.21), (0.22, -0.19), (0.24, 0.05)])
    return (
        Layer(oval(0.0, -0.18, 0.062), "hat light"),
        Layer(dome, "hat"),
        Layer(box(-0.225, -0.02, 0.225, 0.06, 0.035), "hat light"),
    )


def _bow() -> Layers:
    loop = blob([(0.01, -0.01), (0.1, -0.13), (0.2, -0.12), (0.2, 0.1), (0.1, 0.1), (0.01, 0.01)])
    return (Layer(both(loop), "hat"), Layer(oval(0.0, -0.008, 0.045, 0.05), "hat dark"))


def _cap() -> Layers:
    dome = blob([(-0.24, 0.03), (-0.23, -0.16), (-0.08, -0.17), (0.08, -0.17), (0.23, -0.16), (0.24, 0.03)])
    peak = blob([(-0.2, -0.03), (0.0, -0.05), (0.2, -0.03), (0.22, 0.08), (0.0, 0.03), (-0.22, 0.08)])
    return (Layer(dome, "hat"), Layer(oval(0.0, -0.155, 0.025), "hat light"), Layer(peak, "hat dark"))


def _partyhat() -> Layers:
    cone = rounded([(-0.14, 0.03), (0.0, -0.34), (0.14, 0.03)], 0.02)
    bands = inside(join(box(-0.3, -0.05, 0.3, 0.0), box(-0.3, -0.17, 0.3, -0.12)), cone)
    return (Layer(cone, "hat"), Layer(bands, "hat light", True), Layer(star(6, 0.075, 0.045, 0.0, -0.32), "hat light"))


def _flower() -> Layers:
    petals = [(0.0, -0.08), (0.076, -0.024), (0.048, 0.064), (-0.048, 0.064), (-0.076, -0.024)]
    return (
        Layer(join(*(oval(x, y, 0.051) for x, y in petals), oval(0.0, 0.0, 0.056)), "hat"),
        Layer(oval(0.0, 0.0, 0.04), "hat light", True),
    )


HATS: dict[str, Layers] = {
    "tophat": _tophat(),
    "crown": _crown(),
    "beanie": _beanie(),
    "bow": _bow(),
    "cap": _cap(),
    "partyhat": _partyhat(),
    "flower": _flower(),
}
OPEN = ("bow", "flower")
"""Worn beside an antenna, not instead of it: they sit at the side of the head."""
