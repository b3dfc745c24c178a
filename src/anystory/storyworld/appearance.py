"""What varies for one identity: pose, view, expression, what it holds, where its hands reach."""

from __future__ import annotations

from dataclasses import dataclass

from anystory.storyworld.level import Level, check_words, load_level
from anystory.storyworld.rng import Rng

POSES = (
    "standing", "waving", "walking", "sitting", "running", "jumping", "cheering", "dancing", "lying", "pointing",
)  # fmt: skip
VIEWS = ("front", "left", "right", "back")
"""Seen from the front, from behind, or looking towards the left or right edge of the page."""
EXPRESSIONS = ("happy", "surprised", "sad", "angry", "sleepy")
HELD = ("none", "balloon", "flower", "ball", "book", "umbrella", "lantern")

Point = tuple[float, float]
Reach = tuple[Point | None, Point | None]


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """How a character looks in one picture, apart from who it is.

    Raises:
        ValueError: a word that is not in POSES, VIEWS, EXPRESSIONS or HELD, or a malformed `reach`.
    """

    pose: str = "standing"
    view: str = "front"
    expression: str = "happy"
    held: str = "none"
    reach: Reach | None = None
    """Targets of the page-left and the page-right hand: (dx, dy) from the feet in units of height, y downwards,
    or None to leave that hand to the pose. A target out of reach is approached as far as the arm goes."""

    def __post_init__(self) -> None:
        check_words(self, pose=POSES, view=VIEWS, expression=EXPRESSIONS, held=HELD)
        if self.reach is not None and len(self.reach) != 2:
            raise ValueError(f"reach needs two targets (page-left hand, page-right hand), got {self.reach!r}")


def sample_appearance(rng: Rng, level: Level | str | int) -> Appearance:
    """A random appearance within a level, without `reach`."""
    level = level if isinstance(level, Level) else load_level(level)
    return Appearance(
        pose=rng.pick(level.poses),
        view=rng.pick(level.views),
        expression=rng.pick(level.expressions),
        held=rng.pick(level.held) if rng.chance(level.held_chance) and level.held else "none",
    )
