"""What lies in a library: read, and found by name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from errno import ENOTDIR
from pathlib import Path

from anystory.cast.character import Character
from anystory.cast.names import UnknownNameError, name_key, nearest
from anystory.cast.schema import CHARACTER_FILE, entries, parse_character
from anystory.input_files import read_text

__all__ = ["Shelf", "default_folder", "is_named", "read_shelf"]

_REMEDY = "mend it, or import the character again"


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """All that a library held when it was read."""

    folder: Path
    """The library's."""
    characters: tuple[Character, ...] = ()
    """By name."""
    damaged: tuple[str, ...] = ()
    """A sentence for each character that cannot be read."""

    def find(self, name: str) -> Character:
        """The character of a name or an alias.

        Raises:
            UnknownNameError: there is none; the message names the nearest.
        """
        for one in self.characters:
            if is_named(one, name):
                return one
        known = [known for one in self.characters for known in one.names]
        near = nearest(name, known)
        if near:
            hint = f"the nearest {'are' if len(near) > 1 else 'is'} {', '.join(map(repr, near))}"
        else:
            hint = f"it has {', '.join(map(repr, known[:10]))}" if known else "it is empty (`anystory cast add`)"
        damaged = "".join(f"; and {problem}" for problem in self.damaged)
        raise UnknownNameError(f"there is no character {name!r} in {self.folder}: {hint}{damaged}")


def default_folder() -> Path:
    """$ANYSTORY_CAST, else `anystory/cast` in $XDG_DATA_HOME or in `~/.local/share`."""
    if given := os.environ.get("ANYSTORY_CAST"):
        return Path(given).expanduser()
    data, usual = Path(os.environ.get("XDG_DATA_HOME", "")), Path("~/.local/share").expanduser()
    return (data if data.is_absolute() else usual) / "anystory" / "cast"


def read_shelf(folder: Path) -> Shelf:
    """Read all characters of a library; a folder that is not there is an empty one.

    Raises:
        NotADirectoryError: the library is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(ENOTDIR, "is a file, not a folder", str(folder))
    found = [_tried(file) for file in sorted(folder.glob(f"[!.]*/{CHARACTER_FILE}"))]
    characters = [one for one in found if isinstance(one, Character)]
    return Shelf(
        folder=folder,
        characters=tuple(sorted(characters, key=lambda one: name_key(one.name))),
        damaged=tuple(one for one in found if isinstance(one, str)),
    )


def is_named(character: Character, name: str) -> bool:
    """Whether a name, in any spelling, means a character."""
    return name_key(name) in map(name_key, character.names)


def _tried(file: Path) -> Character | str | None:
    """A character, or why it cannot be read; None if it was removed meanwhile."""
    try:
        found = parse_character(read_text(file, _REMEDY), file)
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        return str(error)
    for photo in found.all_photos:
        if not (file.parent / photo.cutout.file).is_file():
            return f"{file.parent / photo.cutout.file} is missing: put it back, or import the character again"
    return Character(**entries(found), folder=file.parent)
