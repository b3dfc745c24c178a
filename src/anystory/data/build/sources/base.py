"""What a source is, and its items: the units of work, of resuming and of order."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from anystory.data.build.candidates import Candidate, Rejected, Rejection

__all__ = ["BuildOptions", "Item", "ItemSource", "PhotoFile", "SourceOptions", "item_key"]


class BuildOptions(BaseModel):
    """Settings of a source or step: unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceOptions(BuildOptions):
    """Settings that every source has."""

    longest: int = Field(default=2048, ge=64, le=8192)
    """Larger pictures are reduced to this longer side, in pixels."""


OptionsT = TypeVar("OptionsT", bound=SourceOptions)


class PhotoFile(BaseModel):
    """One file with pictures, and what the folder says about it. Paths are relative to the source's folder."""

    model_config = ConfigDict(frozen=True)

    image: str
    subjects: tuple[str, ...] = ()
    """Its subjects without a mask file."""
    masks: tuple[tuple[str, str], ...] = ()
    """(subject, mask file)."""
    labels: str | None = None
    """A label map: 0 is background, 1, 2, … are the subjects."""
    caption: str = ""
    target: bool = True
    """False: it is a reference only."""


class Item(BaseModel):
    """What a worker takes through the plan together: a subject's folder, a clip, or a picture with its masks."""

    model_config = ConfigDict(frozen=True)

    key: str
    """Starts the keys of the item's samples; unique in the source."""
    where: str
    """The item's path in the source's folder, for people."""
    photos: tuple[PhotoFile, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that is read for the item, in a fixed order."""
        found: list[str] = []
        for photo in self.photos:
            found += [photo.image, *(file for _, file in photo.masks), *([photo.labels] if photo.labels else [])]
        return tuple(dict.fromkeys(found))

    def digest(self) -> str:
        """SHA-256 of the item's names and captions, without the files' content."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()


class ItemSource(ABC, Generic[OptionsT]):
    """Lists a folder's items and reads them.

    Args:
        folder: The source's folder.
        options: An instance of the class's `Options`.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    """Raised whenever the same files would be read differently."""
    Options: ClassVar[type[SourceOptions]] = SourceOptions

    def __init__(self, folder: Path, options: OptionsT) -> None:
        self.folder, self.options = folder, options

    @abstractmethod
    def items(self, left_out: list[Rejection] | None = None) -> Iterator[Item]:
        """The items, in order of their paths; cheap and lazy.

        Args:
            left_out: Gets the files that belong to no item (other kinds, masks and captions of nothing), to report
                them. It is complete after the last item.

        Raises:
            ValueError: there is no such folder, or nothing in it for this source.
        """

    @abstractmethod
    def read(self, item: Item) -> Candidate | Rejected:
        """The item's photos, decoded."""


def item_key(where: str) -> str:
    """A valid key for a path: its readable words, and twelve digits of its hash that make it unique."""
    ascii_only = unicodedata.normalize("NFKD", where).encode("ascii", "ignore").decode()
    words = re.sub(r"[^A-Za-z0-9]+", "_", ascii_only).strip("_")[:80] or "item"
    return f"{words}-{hashlib.sha256(where.encode()).hexdigest()[:12]}"
