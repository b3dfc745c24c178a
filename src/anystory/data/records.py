"""What a training sample is: a target picture and, for each subject in it, a mask and photos of it from elsewhere.

A record names files and holds no pixels. In a manifest the names are paths, absolute or relative to its folder;
in a shard they are members of the tar file. The pictures are read and checked by `anystory.data.reading`.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

__all__ = ["MOST_SUBJECTS", "SampleRecord", "SampleReference", "SampleSubject", "Split", "check_key"]

Split = Literal["train", "heldout"]

MOST_SUBJECTS = 254
"""Instance maps are 8 bits deep, 0 is the background, and one value is left free."""

_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}")


def check_key(key: str) -> str:
    """Return `key` if it can name a sample.

    Raises:
        ValueError: it holds anything but ASCII letters, digits, "-" and "_" (a dot would end the key in a tar
            member's name), or is empty or longer than 128 characters.
    """
    if not _KEY.fullmatch(key):
        raise ValueError(f'a key is 1 to 128 letters, digits, "-" or "_", and has no dot, got {key!r}')
    return key


def _not_blank(name: str) -> str:
    if not name.strip() or "\0" in name:
        raise ValueError(f"a file's name must not be empty, got {name!r}")
    return name


Key = Annotated[str, AfterValidator(check_key)]
FileName = Annotated[str, AfterValidator(_not_blank)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SampleReference(_Record):
    """One photo of a subject, taken elsewhere than the target."""

    image: FileName
    mask: FileName | None = None
    """8-bit grey, white where the subject is, of the photo's size. None: the photo's own alpha, or all of it."""


class SampleSubject(_Record):
    """One subject of the target."""

    name: str = ""
    """What it is called, for people; nothing is learnt from it."""
    mask: FileName | None = None
    """8-bit grey of the target's size; above 127 is the subject. None only if it is the only subject."""
    references: tuple[SampleReference, ...] = Field(min_length=1)
    """Photos of it; training takes one at random each time."""


class SampleRecord(_Record):
    """A training sample: `SampleRecord.model_validate_json(line)` reads a line of a manifest."""

    key: Key
    """Unique in its data set; also the stem of its members' names in a shard."""
    image: FileName
    """The target."""
    caption: str
    """What the target shows, in words."""
    subjects: tuple[SampleSubject, ...] = Field(min_length=1, max_length=MOST_SUBJECTS)
    """In the order of their numbers in the instance map: 1, 2, …"""
    place: FileName | None = None
    """A picture of the target's place, without the subjects."""
    source: str = ""
    """Where the pictures come from, for example a collection's name or an address."""
    licence: str = ""
    """Under which licence they may be used."""
    split: Split = "train"

    @model_validator(mode="after")
    def _masks_tell_subjects_apart(self) -> SampleRecord:
        lacking = [str(i) for i, subject in enumerate(self.subjects, 1) if subject.mask is None]
        if lacking and len(self.subjects) > 1:
            raise ValueError(
                f"subject {', '.join(lacking)} of {len(self.subjects)} has no mask: only a sample with one subject "
                "may leave it out"
            )
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that the record names, in a fixed order."""
        names: list[str | None] = [self.image]
        for subject in self.subjects:
            names.append(subject.mask)
            for reference in subject.references:
                names += [reference.image, reference.mask]
        names.append(self.place)
        return tuple(name for name in names if name is not None)
