"""The story's characters that are in a library: their pictures and words in place of `@NAME`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from anystory.cast import Character, Library
from anystory.story.positions import Key, Problem, StoryProblems
from anystory.story.reading import StoryFile
from anystory.story.schema import CastMember, Look, StoryPhoto

__all__ = ["with_library"]


def with_library(file: StoryFile, folder: Path | None = None) -> StoryFile:
    """A story whose characters have their pictures from the library; what the story itself says about them stays.

    A character's variants in the library become variants in the story.

    Args:
        file: The story.
        folder: The library's; None for the default.

    Raises:
        StoryProblems: nobody in the library has that name.
    """
    reader = _Reading(file, Library(folder))
    cast = {member: reader.member(member, who) for member, who in file.story.cast.items()}
    if reader.problems:
        raise StoryProblems(reader.problems)
    return replace(file, story=file.story.model_copy(update={"cast": cast}))


class _Reading:
    """Looks characters up, and notes those that are not there."""

    def __init__(self, file: StoryFile, library: Library) -> None:
        self.file, self.library = file, library
        self.problems: list[Problem] = []

    def _find(self, reference: str, *where: Key) -> tuple[Character, str | None] | None:
        try:
            return self.library.find(reference)
        except ValueError as error:
            text = error.args[0] if error.args else str(error)
            self.problems.append(self.file.problem(*where, "library", text=str(text)))
            return None

    def member(self, member: str, who: CastMember) -> CastMember:
        """A member with what the library knows of it."""
        variants = {name: self._look(look, "cast", member, "variants", name) for name, look in who.variants.items()}
        found = None if who.library is None else self._find(who.library, "cast", member)
        if found is None:
            return who.model_copy(update={"variants": variants})
        character, variant = found
        own: dict[str, Any] = {
            "library": None,
            "photos": _photos(character, variant),
            "looks": who.looks or character.description_of(variant) or None,
            "name": who.name or character.name,
            "aliases": who.aliases if variant else tuple(dict.fromkeys((*who.aliases, *character.aliases))),
            "colour": who.colour or character.colour or None,
            "variants": {**dict(_variants(character)), **variants},
        }
        return who.model_copy(update=own)

    def _look(self, look: Look, *where: Key) -> Look:
        found = None if look.library is None else self._find(look.library, *where)
        if found is None:
            return look
        character, variant = found
        looks = look.looks or character.description_of(variant) or None
        return look.model_copy(update={"library": None, "photos": _photos(character, variant), "looks": looks})


def _variants(character: Character) -> Iterator[tuple[str, Look]]:
    for variant in character.variants:
        looks = character.description_of(variant.name) or None
        given = {"photos": _photos(character, variant.name), **({"looks": looks} if looks else {})}
        yield variant.name, Look.model_construct(set(given), **given)


def _photos(character: Character, variant: str | None) -> tuple[StoryPhoto, ...]:
    """The cut-outs, which hold their masks as transparency."""
    return tuple(StoryPhoto(image=str(path.absolute())) for path in character.cutouts(variant))
