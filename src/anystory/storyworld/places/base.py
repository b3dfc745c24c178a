"""What a place is: its words, its layers, and how its ground takes a shadow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from anystory.storyworld.places.painter import PlacePainter


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place as data: how captions call it and which functions draw it."""

    name: str
    """Key in levels and records, e.g. "city street"."""
    phrases: tuple[str, ...]
    """Where somebody is who is here; lower case, no punctuation ("on a beach"). The first is the plainest."""
    back: Callable[[PlacePainter], None]
    """Draws everything behind the characters, the ground included."""
    front: Callable[[PlacePainter], None] | None = None
    """Draws the details nearest to the viewer, which may hide feet; None when there are none."""
    indoor: bool = False
    """Indoor places keep more of their own colours at dusk and night."""
    shadow: float = 0.22
    """Opacity of the shadow under a character's feet, 0..1."""
