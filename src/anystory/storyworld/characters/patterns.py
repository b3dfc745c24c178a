"""Patterns, cut to the outline of a torso or a skull. A pattern is painted in the secondary colour."""

from __future__ import annotations

from collections.abc import Callable

import skia

from anystory.storyworld.characters.shapes import blob, box, inside, join, oval, poly


def _stripes() -> skia.Path:
    return join(*(box(-0.5, y, 0.5, y + 0.058) for y in (-0.285, -0.165, -0.045)))


def _spots() -> skia.Path:
    centres = [(-0.14, -0.24), (0.13, -0.27), (0.0, -0.3), (0.17, -0.13), (-0.17, -0.1), (-0.1, 0.02), (0.1, 0.01)]
    return join(*(oval(x, y, 0.043) for x, y in centres))


def _patches() -> skia.Path:
    left = blob([(-0.32, -0.22), (-0.05, -0.24), (-0.03, -0.02), (-0.12, 0.04), (-0.34, 0.0)])
    right = blob([(0.02, -0.42), (0.3, -0.42), (0.34, -0.2), (0.12, -0.16)])
    return join(left, right, oval(0.2, 0.04, 0.09))


def _belly() -> skia.Path:
    return oval(0.0, -0.1, 0.145, 0.18)


def _checks() -> skia.Path:
    side = 0.082
    cells = [(i, j) for i in range(-4, 4) for j in range(-6, 3) if (i + j) % 2]
    return join(*(box(i * side, j * side, (i + 1) * side, (j + 1) * side) for i, j in cells))


def _chevrons() -> skia.Path:
    return join(*(_chevron(0.3, y + 0.05, 0.17, 0.06) for y in (-0.3, -0.18, -0.06)))


def _chevron(half: float, tip: float, rise: float, thick: float) -> skia.Path:
    """A V whose outer tip is at (0, `tip`) and whose arms rise by `rise` over a width of `half`."""
    top = tip - rise
    return poly([(-half, top), (0.0, tip), (half, top), (half, top + thick), (0.0, tip + thick), (-half, top + thick)])


def _halves() -> skia.Path:
    return box(0.0, -0.6, 0.6, 0.6)


_TORSO: dict[str, Callable[[], skia.Path]] = {
    "stripes": _stripes,
    "spots": _spots,
    "patches": _patches,
    "belly": _belly,
    "checks": _checks,
    "chevrons": _chevrons,
    "halves": _halves,
}


def torso_pattern(pattern: str, torso: skia.Path) -> skia.Path | None:
    """The pattern in torso coordinates, or None for "plain"."""
    return inside(_TORSO[pattern](), torso) if pattern in _TORSO else None


def _tabby() -> skia.Path:
    middle = poly([(-0.028, -0.3), (0.028, -0.3), (0.012, -0.09), (-0.012, -0.09)])
    right = poly([(0.08, -0.3), (0.14, -0.3), (0.095, -0.11), (0.078, -0.11)])
    left = poly([(-0.08, -0.3), (-0.14, -0.3), (-0.095, -0.11), (-0.078, -0.11)])
    return join(middle, left, right)


def _freckles() -> skia.Path:
    return join(
        oval(-0.15, -0.16, 0.04),
        oval(0.02, -0.17, 0.045),
        oval(0.17, -0.13, 0.038),
        oval(0.21, 0.02, 0.035),
        oval(-0.22, 0.0, 0.035),
    )


def _eye_patch() -> skia.Path:
    return blob([(0.03, -0.16), (0.17, -0.2), (0.24, -0.08), (0.21, 0.1), (0.06, 0.11), (-0.01, -0.02)])


def _checked_brow() -> skia.Path:
    side = 0.075
    cells = [(i, j) for i in range(-4, 4) for j in range(-4, -1) if (i + j) % 2]
    return join(*(box(i * side, j * side, (i + 1) * side, (j + 1) * side) for i, j in cells))


def _brow_chevrons() -> skia.Path:
    return join(*(_chevron(0.2, y, 0.12, 0.05) for y in (-0.2, -0.11)))


_SKULL: dict[str, Callable[[], skia.Path]] = {
    "stripes": _tabby,
    "spots": _freckles,
    "patches": _eye_patch,
    "checks": _checked_brow,
    "chevrons": _brow_chevrons,
    "halves": _halves,
}


def skull_pattern(pattern: str, skull: skia.Path) -> skia.Path | None:
    """The pattern in head coordinates, or None for patterns of the body only."""
    return inside(_SKULL[pattern](), skull) if pattern in _SKULL else None
