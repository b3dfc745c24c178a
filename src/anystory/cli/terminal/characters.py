"""Characters of a library in words. Nothing heavy is imported."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anystory.cast import Character
    from anystory.cast.schema import CastPhoto

__all__ = ["as_json", "character_lines", "count", "photo_line", "reference"]


def character_lines(character: Character, variant: str | None = None) -> Iterator[str]:
    """All about a character, or about one of its variants."""
    yield reference(character, variant)
    words = {
        "also": ", ".join(character.aliases) if variant is None else "",
        "description": character.description_of(variant),
        "colour": character.colour,
        "licence": character.licence,
        "notes": character.notes.replace("\n", "\n" + " " * 13),
        "folder": str(character.folder),
    }
    yield from (f"{name:<12} {text}" for name, text in words.items() if text)
    yield from _photo_lines(character.photos_of(variant))
    if variant is None:
        for look in character.variants:
            yield f"@{look.name:<11} {look.description}".rstrip()
            yield from _photo_lines(look.photos)
    yield f"{'use':<12} --subject {shlex.quote(reference(character, variant))}"


def _photo_lines(photos: tuple[CastPhoto, ...]) -> Iterator[str]:
    for number, photo in enumerate(photos, 1):
        yield f"  {photo_line(number, photo)}"


def photo_line(number: int, photo: CastPhoto) -> str:
    """`photo 1    photos/fox-….png, found by alpha, confidence 1.00`."""
    name = "(only its cut-out is here)" if photo.photo is None else photo.photo.file
    return f"photo {number:<4} {name}, found by {photo.found_by or 'unknown'}, confidence {photo.confidence:.2f}"


def reference(character: Character, variant: str | None = None) -> str:
    """What --subject calls it."""
    return f"@{character.name}" if variant is None else f"@{character.name}@{variant}"


def count(number: int, what: str) -> str:
    """`1 photo`, `2 photos`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def as_json(character: Character) -> dict[str, Any]:
    """Everything that is known of a character."""
    return asdict(character) | {"folder": str(character.folder)}
