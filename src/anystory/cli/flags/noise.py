"""At which noise levels `segment` looks at a picture, as options. Nothing heavy is imported."""

from __future__ import annotations

from typing import Annotated

import typer

from anystory.segment.levels import check_levels

__all__ = ["Draws", "Levels", "parse_levels"]

_MOST_DRAWS = 64

Levels = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,…",
        help="Noise levels at which to look, between 0 (the picture) and 1 (noise); by default the model's.",
    ),
]

Draws = Annotated[
    int | None,
    typer.Option(min=1, max=_MOST_DRAWS, help="How often to draw noise at each level; by default the model's."),
]


def parse_levels(text: str | None) -> tuple[float, ...] | None:
    """`0.1,0.3` as numbers; None is the model's own choice.

    Raises:
        ValueError: anything but rising numbers between 0 and 1.
    """
    if text is None:
        return None
    try:
        levels = tuple(float(number) for number in text.split(","))
        check_levels(levels)
    except ValueError:
        raise ValueError(f"--levels must be rising numbers between 0 and 1, such as 0.1,0.3, got {text!r}") from None
    return levels
