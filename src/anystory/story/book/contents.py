"""What a book is made of: panels with their pictures, routing masks and words. Nothing here draws."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from PIL import Image

__all__ = ["BookContents", "Kind", "Line", "PanelArt", "Transition", "is_right_to_left"]

Kind = Literal["speech", "thought", "shout", "whisper"]
"""How a line is said; it decides the shape of its balloon."""
Transition = Literal["cut", "fade", "dissolve", "wipe"]
"""How one panel follows another in a film."""

_RIGHT_TO_LEFT = {"ar", "arc", "ckb", "dv", "fa", "he", "iw", "ks", "nqo", "pnb", "ps", "sd", "syr", "ug", "ur", "yi"}
"""Languages that are written from right to left (ISO 639)."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """What one character says or thinks.

    Raises:
        ValueError: no text, or an unknown kind.
    """

    text: str
    speaker: str | None = None
    """A name among the panel's masks; any other name, or None, is somebody outside the picture."""
    name: str = ""
    """What a transcript calls the speaker; `speaker` by default."""
    kind: Kind = "speech"
    colour: str | None = None
    """"#rrggbb": the balloon gets a light tint of it."""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("a line's `text` is empty: write what is said, or leave the line out")
        if self.kind not in get_args(Kind):
            raise ValueError(f"a line's `kind` must be one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        if self.colour is not None and not re.fullmatch("#[0-9a-fA-F]{6}", self.colour):
            raise ValueError(f'a line\'s `colour` must be like "#c04030", got {self.colour!r}')


@dataclass(frozen=True, kw_only=True, eq=False)
class PanelArt:
    """One panel: its picture, who is where in it, and its words.

    Raises:
        ValueError: a mask whose shape is not the picture's.
    """

    number: int
    """As the story counts it; messages use it."""
    picture: Image.Image
    """RGB, of any size."""
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Name -> (height, width) bool, true where the subject is: the routing masks."""
    narration: str = ""
    lines: tuple[Line, ...] = ()
    alt: str = ""
    """The picture in words, for who cannot see it."""
    transition: Transition = "cut"
    """How the next panel follows in a film."""

    def __post_init__(self) -> None:
        for name, mask in self.masks.items():
            if mask.shape != (self.picture.height, self.picture.width):
                raise ValueError(
                    f"panel {self.number}: the mask of {name!r} must have the picture's height and width "
                    f"{(self.picture.height, self.picture.width)}, got {mask.shape}"
                )


@dataclass(frozen=True, kw_only=True, eq=False)
class BookContents:
    """A whole book.

    Raises:
        ValueError: no panel.
    """

    title: str
    panels: tuple[PanelArt, ...]
    author: str = ""
    language: str = "en"
    """BCP 47: "en", "de", "ar", "zh-Hans". It decides hyphenation, shaping and the reading order."""
    description: str = ""

    def __post_init__(self) -> None:
        if not self.panels:
            raise ValueError("the book has no panels")


def is_right_to_left(language: str) -> bool:
    """Whether a language (BCP 47) is written from right to left."""
    parts = unicodedata.normalize("NFKC", language).lower().replace("_", "-").split("-")
    if "latn" in parts or "cyrl" in parts:
        return False
    return parts[0] in _RIGHT_TO_LEFT or "arab" in parts or "hebr" in parts
