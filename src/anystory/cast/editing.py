"""What a change makes of a character."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from anystory.cast.character import Character
from anystory.cast.names import name_key
from anystory.cast.schema import CastPhoto, CharacterFile, entries

__all__ = ["Change", "check_new_variant", "check_photos", "without_aliases"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """What `Library.edit` is asked for, but for new photos.

    Raises:
        ValueError: a variant's change that is for the whole character.
    """

    variant: str | None
    words: dict[str, str | None]
    """{field: its new text, or None for the old}."""
    add_aliases: Sequence[str]
    drop_aliases: Sequence[str]
    drop_photos: Sequence[int]
    """From 1."""

    def __post_init__(self) -> None:
        if self.variant is None:
            return
        wrong = [field for field, text in self.words.items() if text is not None and field not in _OF_VARIANTS]
        wrong += ["aliases"] if self.add_aliases or self.drop_aliases else []
        if wrong:
            raise ValueError(f"a variant has no {' and no '.join(wrong)} of its own: change the character's")

    def of(self, character: Character, more: Sequence[CastPhoto] = ()) -> CharacterFile:
        """The character as it is afterwards, with further photos.

        Raises:
            UnknownNameError: no such variant.
            ValueError: a text that cannot be, an alias or a photo that is not there.
        """
        words: dict[str, Any] = {field: text for field, text in self.words.items() if text is not None}
        photos = (*_without(character.photos_of(self.variant), self.drop_photos), *more)
        if self.variant is not None:
            old = character.variant(self.variant)
            new = replace(old, **words, photos=photos)
            words = {"variants": tuple(new if one is old else one for one in character.variants)}
        else:
            words |= {"photos": photos, "aliases": (*without_aliases(character, self.drop_aliases), *self.add_aliases)}
        return CharacterFile(**entries(character) | words)


_OF_VARIANTS = ("name", "description")


def without_aliases(character: CharacterFile, drop: Sequence[str]) -> tuple[str, ...]:
    """The other aliases of a character.

    Raises:
        ValueError: one is not there.
    """
    known = {name_key(alias): alias for alias in character.aliases}
    for alias in drop:
        if known.pop(name_key(alias), None) is None:
            hint = f"it has {', '.join(map(repr, character.aliases))}" if character.aliases else "it has none"
            raise ValueError(f"{character.name} has no alias {alias!r}: {hint}")
    return tuple(known.values())


def _without(photos: tuple[CastPhoto, ...], drop: Sequence[int]) -> tuple[CastPhoto, ...]:
    if wrong := [number for number in drop if not 1 <= number <= len(photos)]:
        raise ValueError(f"there is no photo {wrong[0]}: they are counted from 1 to {len(photos)}")
    return tuple(photo for number, photo in enumerate(photos, 1) if number not in drop)


def check_new_variant(character: Character, name: str) -> None:
    """Refuse a variant that a character has already."""
    if any(name_key(one.name) == name_key(name) for one in character.variants):
        raise ValueError(f"{character.name} has a variant {name!r} already: `anystory cast edit` changes it")


def check_photos(character: CharacterFile) -> None:
    """Refuse a character or a variant without any photo."""
    if not all(one.photos for one in (character, *character.variants)):
        raise ValueError(f"{character.name} needs at least one photo of each look: add another as you drop the last")
