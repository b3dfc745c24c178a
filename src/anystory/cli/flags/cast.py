"""The library of characters as an option, and `@NAME` in a picture's place. Nothing heavy is imported at first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from anystory.cast import Character

__all__ = ["LibraryFolder", "cast_originals", "find_character"]

LibraryFolder = Annotated[
    Path | None,
    typer.Option(
        "--library",
        metavar="DIR",
        help="The library of characters. Default: $ANYSTORY_CAST, else anystory/cast in $XDG_DATA_HOME or in "
        "~/.local/share.",
    ),
]


def find_character(reference: str, library: Path | None) -> tuple[Character, str | None]:
    """The character of `@NAME` or `@NAME@VARIANT`, and its variant's name.

    Raises:
        KeyError, ValueError: nobody has this name (one error that is both), or it is no name.
    """
    from anystory.cast import Library

    return Library(library).find(reference)


def cast_originals(image: Path, library: Path | None) -> tuple[Path, ...]:
    """The photos of `@NAME` as they were given; any other path, and a file of such a name, as it is.

    Raises:
        ValueError: nobody has this name.
    """
    if not str(image).startswith("@") or image.exists():
        return (image,)
    character, variant = find_character(str(image), library)
    return character.originals(variant)
