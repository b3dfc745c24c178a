"""A scene as data: who stands where, in which place, light and style."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from anystory.storyworld.appearance import Appearance
from anystory.storyworld.brush import STYLES
from anystory.storyworld.identity import Identity, Proportions
from anystory.storyworld.level import check_words
from anystory.storyworld.places import LIGHTS, get_place

SPLITS = ("train", "heldout")
ARRANGEMENTS = ("alone", "apart", "overlapping", "in_front", "holding_hands")


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
        ValueError: an unknown place, light, style or arrangement, or not 1 to 5 placements.
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
    """1 to 5 characters, from left to right."""
    caption: str = ""

    def __post_init__(self) -> None:
        get_place(self.place)
        check_words(self, light=LIGHTS, style=STYLES, arrangement=ARRANGEMENTS, split=SPLITS)
        if not 1 <= len(self.placements) <= 5:
            raise ValueError(f"a scene has 1 to 5 placements, got {len(self.placements)}")

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
