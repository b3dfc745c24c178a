"""A character of a library: what its file says, and where its pictures lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anystory.cast.names import UnknownNameError, name_key, nearest
from anystory.cast.schema import CastPhoto, CastVariant, CharacterFile
from anystory.subjects import Subject

__all__ = ["Character"]


@dataclass(frozen=True, kw_only=True)
class Character(CharacterFile):
    """A character of a library.

    Library()["mara"].subject("winter")
    """

    folder: Path
    """Where its files lie."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its name and its aliases."""
        return (self.name, *self.aliases)

    def variant(self, name: str) -> CastVariant:
        """The variant of a name, in any spelling.

        Raises:
            UnknownNameError: there is none; the message names the nearest.
        """
        found = [variant for variant in self.variants if name_key(variant.name) == name_key(name)]
        if found:
            return found[0]
        known = [variant.name for variant in self.variants]
        near = nearest(name, known) or known[:10]
        hint = f"it has {', '.join(map(repr, near))}" if near else "it has none"
        raise UnknownNameError(f"{self.name} has no variant {name!r}: {hint}")

    def photos_of(self, variant: str | None = None) -> tuple[CastPhoto, ...]:
        """The photos of its usual look, or of a variant."""
        return self.photos if variant is None else self.variant(variant).photos

    def description_of(self, variant: str | None = None) -> str:
        """What a prompt says in its place; "" if nobody has said."""
        return (self.variant(variant).description if variant is not None else "") or self.description

    def cutouts(self, variant: str | None = None) -> tuple[Path, ...]:
        """The cut-outs, which are what pictures are drawn from."""
        return tuple(self.folder / photo.cutout.file for photo in self.photos_of(variant))

    def originals(self, variant: str | None = None) -> tuple[Path, ...]:
        """The photos as they were given; the cut-out of one that its owner kept to themselves."""
        return tuple(self.folder / (photo.photo or photo.cutout).file for photo in self.photos_of(variant))

    def subject(self, variant: str | None = None, **settings: Any) -> Subject:
        """The character for a pipeline's call.

        Args:
            variant: Which look; None for the usual one.
            **settings: Of `Subject`: scales, region.

        Raises:
            UnknownNameError: no such variant.
        """
        images = self.cutouts(variant)
        return Subject(images[0] if len(images) == 1 else images, name=self.name, **settings)
