"""How a book's pages look, as options. Nothing heavy is imported at first."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from anystory.story.book.pages.page import PageLayout

__all__ = ["PageFlags", "split_names"]


@dataclass(frozen=True, kw_only=True)
class PageFlags:
    """What replaces the layout of the story file; None leaves an entry as it is there."""

    template: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,…",
            help="Page templates, one for each page, the last for all further pages: auto, full, two, three, four, "
            "six, strip, webtoon; by default what the story says.",
        ),
    ] = None
    page: Annotated[
        Literal["auto", "portrait", "square", "landscape"] | None,
        typer.Option(help="Shape of the pages; by default what the story says."),
    ] = None
    direction: Annotated[
        Literal["auto", "ltr", "rtl"] | None,
        typer.Option(help="Reading direction; by default what the story says."),
    ] = None
    cover: Annotated[
        bool | None, typer.Option("--cover/--no-cover", help="Begin with a cover; by default what the story says.")
    ] = None
    letters: Annotated[
        str, typer.Option(metavar="MIN-MAX", help="Smallest and largest size of the letters, in points.")
    ] = "7-12.5"

    def applied_to(self, layout: PageLayout) -> PageLayout:
        """A story's layout with these in place of its own.

        Raises:
            ValueError: sizes that are none, or an unknown template.
        """
        smallest, largest = _sizes(self.letters)
        given: dict[str, Any] = {"smallest": smallest, "largest": largest}
        if self.template is not None:
            given["templates"] = split_names(self.template)
        if self.page is not None:
            given["page"] = self.page
        if self.direction is not None:
            given["right_to_left"] = {"auto": None, "ltr": False, "rtl": True}[self.direction]
        if self.cover is not None:
            given["cover"] = self.cover
        return replace(layout, **given)


def split_names(text: str) -> tuple[str, ...]:
    """`pdf, CBZ` as ("pdf", "cbz")."""
    return tuple(name.strip().lower() for name in text.split(",") if name.strip())


def _sizes(text: str) -> tuple[float, float]:
    """`7-12.5` as (7.0, 12.5).

    Raises:
        ValueError: anything else.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)\s*", text)
    if match is None:
        raise ValueError(f"--letters must be two sizes in points such as 7-12.5, got {text!r}")
    return float(match[1]), float(match[2])
