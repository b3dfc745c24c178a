"""Small books for the tests of pages and exports: two figures on a gradient, and their masks."""

from __future__ import annotations

import numpy as np
from PIL import Image

from anystory.story.book.contents import BookContents, Line, PanelArt, Transition

__all__ = ["FOX", "ROBOT", "book", "panel"]

FOX, ROBOT = (8, 14, 20, 44), (28, 18, 40, 46)
"""Boxes of the figures in a panel of 48 × 48: left, top, right, bottom."""


def panel(
    number: int = 1,
    *lines: tuple[str | None, str] | Line,
    narration: str = "",
    size: tuple[int, int] = (48, 48),
    transition: Transition = "cut",
) -> PanelArt:
    """A panel in which "fox" stands on the left and "robot" on the right."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 40 * number % 256)], axis=2)
    masks = {}
    for name, (left, top, right, bottom) in {"fox": FOX, "robot": ROBOT}.items():
        mask = np.zeros((height, width), bool)
        mask[top:bottom, left:right] = True
        masks[name] = mask
    said = tuple(line if isinstance(line, Line) else Line(speaker=line[0], text=line[1]) for line in lines)
    return PanelArt(
        number=number,
        picture=Image.fromarray(pixels.astype(np.uint8)),
        masks=masks,
        narration=narration,
        lines=said,
        alt=f"Fox & robot {number}",
        transition=transition,
    )


def book(*panels: PanelArt, title: str = "Fox & <Robot>", language: str = "en") -> BookContents:
    """A book of these panels, or of three usual ones."""
    usual = (
        panel(1, ("fox", "Hello, robot!"), narration="One morning…"),
        panel(2, ("fox", "Who are you?"), ("robot", "I am not quite sure.")),
        panel(3, Line(speaker="robot", text="HELP & RUN!", kind="shout", name="Rob <1>"), (None, "Off stage")),
    )
    return BookContents(title=title, author="A. Writer", language=language, panels=panels or usual)
