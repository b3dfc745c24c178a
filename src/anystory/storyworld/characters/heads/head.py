"""What a head is made of. Head coordinates: the middle is (0, 0), the crown about (0, -0.23)."""

from __future__ import annotations

from dataclasses import dataclass

import skia

from anystory.storyworld.characters.heads.faces import Face
from anystory.storyworld.characters.shapes import Layers


@dataclass(frozen=True, kw_only=True)
class Head:
    """The art of a head in one view, in drawing order."""

    behind: Layers
    """Ears and the like, behind the skull."""
    skull: skia.Path
    over: Layers
    """Muzzle, cheeks, nose: above the pattern, below eyes and mouth. Empty from behind."""
    face: Face
    crown: tuple[float, float, float] = (0.0, -0.19, 1.0)
    """Where a hat sits: x, y of its brim, and its size."""
    antenna: Layers = ()
    """Left out under a hat."""
    top: Layers = ()
    """Above everything on the head, hats included (a frog's eye bulges)."""
