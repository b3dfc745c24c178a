"""What is compared: a judge sees who is in a picture, and says how alike two sights of a character are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

__all__ = ["Judge", "Role", "Shot", "Sight"]


class Role(NamedTuple):
    """A cast member in one of its looks; looks are not compared with each other."""

    member: str
    variant: str | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Shot:
    """A drawn picture, and who should be where."""

    picture: np.ndarray
    """(H, W, 3) uint8."""
    masks: Mapping[Role, np.ndarray]
    """Routing masks, (H, W) bool."""
    prompt: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Sight:
    """A character as a judge sees it in one picture."""

    features: Any
    """What is compared; None for one that is missing."""
    doubled: bool = False
    """It seems to be there twice."""

    @property
    def missing(self) -> bool:
        """Nothing of it is to be seen."""
        return self.features is None


class Judge(Protocol):
    """Looks at pictures."""

    name: str
    """What the page calls it."""
    alike: float
    """A character whose mean likeness is below this is not itself."""

    def sights(self, shot: Shot) -> dict[Role, Sight]:
        """Every character of a shot."""
        ...

    def reference(self, role: Role) -> Any:
        """The features of a character's reference; None where there is none."""
        ...

    def likeness(self, a: Any, b: Any) -> float:
        """How alike two features are: 1 for equal ones, 0 for nothing in common."""
        ...

    def without_effect(self, shot: Shot) -> list[str]:
        """Sentences about words of the prompt that the picture does not show."""
        ...
