"""How the cast looks: the words for prompts, and the files of its pictures."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from anystory.engine.job import PhotoFiles
from anystory.files import atomic_write
from anystory.story.prompts import Wording, wording_of
from anystory.story.schema import Look, Story

if TYPE_CHECKING:
    from anystory.storyworld.identity import Identity

__all__ = ["all_looks", "drawn_reference", "identity_of", "photo_files", "story_wordings"]

_SIDE = 256
"""Of a reference that is drawn, in pixels."""
_DRAWING = 1
"""Raised when the same description is drawn otherwise."""


def all_looks(story: Story) -> Iterator[tuple[str, str | None, Look]]:
    """(id, variant, look) of everybody; the variant is None for the usual look."""
    for member, who in story.cast.items():
        for variant in (None, *who.variants):
            yield member, variant, who.look(variant)


def story_wordings(story: Story) -> dict[tuple[str, str | None], Wording]:
    """The words for everybody, by (id, variant).

    A StoryWorld description alone gives only its kind: who it is, the picture tells. Who has no words keeps the name.

    Raises:
        ValueError: a StoryWorld description without a kind.
    """
    found = {}
    for member, variant, look in all_looks(story):
        if look.looks:
            found[member, variant] = wording_of(look.looks, look.short)
        elif look.storyworld:
            kind = identity_of(look, story.cast[member].seed)[0].kind
            found[member, variant] = wording_of(f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}", look.short)
        else:
            name = story.display_name(member)
            found[member, variant] = Wording(name, look.short or name)
    return found


def identity_of(look: Look, seed: int) -> tuple[Identity, list[str]]:
    """The StoryWorld character of a description, and what of it was not understood.

    Raises:
        ValueError: it names no kind of character, or contradicts itself.
    """
    from anystory.storyworld.language.parse import parse_identity

    assert look.storyworld is not None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        identity = parse_identity(look.storyworld, seed)
    return identity, [str(warning.message) for warning in caught]


def photo_files(look: Look, *, seed: int, folder: Path, references: Path, name: str) -> tuple[PhotoFiles, ...]:
    """The files of a look, at least one; a StoryWorld description is drawn unless that has been done.

    Args:
        look: With exactly one source.
        seed: For what a description leaves open.
        folder: What the paths are relative to.
        references: Where pictures are drawn into.
        name: How such a file's name begins.
    """
    if look.storyworld:
        return (PhotoFiles(drawn_reference(look, seed, references, name)),)
    return tuple(
        PhotoFiles(folder / photo.image, None if photo.mask is None else folder / photo.mask) for photo in look.photos
    )


def drawn_reference(look: Look, seed: int, references: Path, name: str) -> Path:
    """The picture of a StoryWorld description: in a book it stays as it was first drawn."""
    digest = hashlib.sha256(json.dumps([_DRAWING, look.storyworld, seed]).encode()).hexdigest()
    path = references / f"{name}-{digest[:8]}.png"
    if not path.is_file():
        from PIL import Image

        from anystory.storyworld.reference import render_reference

        picture = Image.fromarray(render_reference(identity_of(look, seed)[0], size=_SIDE))
        with atomic_write(path) as temporary:
            picture.save(temporary)
    return path
