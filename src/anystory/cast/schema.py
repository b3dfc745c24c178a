"""What `character.json` says of a character, checked: it may come from anybody."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Interval, MinLen

from anystory.cast.names import check_line, check_name, name_key
from anystory.input_files import parse_object, why_invalid

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = [
    "CHARACTER_FILE",
    "COLOURS",
    "CUTOUTS",
    "MASKS",
    "PHOTOS",
    "CastPhoto",
    "CastVariant",
    "CharacterFile",
    "KeptFile",
    "as_text",
    "entries",
    "parse_character",
]

FORMAT = "anystory-character/1"

CHARACTER_FILE = "character.json"
"""In a character's folder, and in its zip."""

PHOTOS, MASKS, CUTOUTS = "photos", "masks", "cutouts"
"""The folders of a character's files."""

COLOURS = ("#e4572e", "#2e86ab", "#4c9f38", "#a23b90", "#f2a900", "#17a398", "#6b4ce6", "#c2185b", "#795548", "#607d8b")
"""Colours for overlays that tell characters apart, in the order in which they are given out."""

_MOST_PHOTOS, _MOST_ALIASES, _MOST_VARIANTS = 50, 50, 100
_MOST_DESCRIPTION, _MOST_NOTES, _MOST_LICENCE, _MOST_METHOD = 500, 10_000, 200, 500
"""In characters."""

_FILE = re.compile(rf"({PHOTOS}|{MASKS}|{CUTOUTS})/[^./\\:\x00-\x1f][^/\\:\x00-\x1f]*")
_STRICT = {"extra": "forbid", "strict": True, "allow_inf_nan": False}


@dataclass(frozen=True, kw_only=True)
class KeptFile:
    """A file in a character's folder.

    Raises:
        ValueError: a path that leads elsewhere.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    file: str
    """Relative to the character's folder: `photos/…`, `masks/…` or `cutouts/…`."""
    sha256: str

    def __post_init__(self) -> None:
        if not _FILE.fullmatch(self.file) or not self.file.isprintable():
            raise ValueError(f"file must lie in {PHOTOS}/, {MASKS}/ or {CUTOUTS}/, got {self.file!r}")
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256 must be 64 hexadecimal digits, got {self.sha256!r}")


@dataclass(frozen=True, kw_only=True)
class CastPhoto:
    """A reference photo with its cut-out, which is what pictures are drawn from.

    Raises:
        ValueError: a way to find the subject that cannot be.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    cutout: KeptFile
    """The subject alone, on a transparent background, with one transparent pixel around it."""
    photo: KeptFile | None = None
    """The photo as it was given; None if its owner kept it to themselves."""
    mask: KeptFile | None = None
    """The mask that was given with it."""
    found_by: str = ""
    """How the subject was found: "mask", "alpha" or a segmenter."""
    confidence: Annotated[float, Interval(ge=0, le=1)] = 1.0
    """How far to trust the cut-out."""

    def __post_init__(self) -> None:
        if self.found_by:
            check_line(self.found_by, "found_by", _MOST_METHOD)

    @property
    def files(self) -> tuple[KeptFile, ...]:
        """All its files."""
        return tuple(file for file in (self.photo, self.mask, self.cutout) if file is not None)


@dataclass(frozen=True, kw_only=True)
class CastVariant:
    """The same character with another look: other clothes, another age.

    Raises:
        ValueError: a name or a description that cannot be.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    name: str
    photos: Annotated[tuple[CastPhoto, ...], MinLen(1)]
    description: str = ""
    """Of its own; empty for the character's."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", check_name(self.name, "variant"))
        if self.description:
            object.__setattr__(self, "description", check_line(self.description, "description", _MOST_DESCRIPTION))
        _check_number("photos", len(self.photos), _MOST_PHOTOS)


@dataclass(frozen=True, kw_only=True)
class CharacterFile:
    """A character: who it is, and the photos of its usual look.

    Raises:
        ValueError: a name, text or colour that cannot be, or one name twice.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    name: str
    photos: Annotated[tuple[CastPhoto, ...], MinLen(1)]
    aliases: tuple[str, ...] = ()
    """Other names that mean it."""
    description: str = ""
    """What a prompt says in its place: "a striped blue fox with a red hat"."""
    colour: str = COLOURS[0]
    """For overlays: #rrggbb."""
    notes: str = ""
    """For people; nothing reads them."""
    licence: str = ""
    """What others may do with it."""
    variants: tuple[CastVariant, ...] = ()

    def __post_init__(self) -> None:
        set_to = {
            "name": check_name(self.name),
            "aliases": tuple(check_name(alias, "alias") for alias in self.aliases),
            "colour": self.colour.strip().lower(),
        }
        limits = {"description": _MOST_DESCRIPTION, "notes": _MOST_NOTES, "licence": _MOST_LICENCE}
        for field, most in limits.items():
            text = getattr(self, field)
            set_to[field] = check_line(text, field, most, lines=field == "notes") if text.strip() else ""
        for field, value in set_to.items():
            object.__setattr__(self, field, value)
        if not re.fullmatch("#[0-9a-f]{6}", self.colour):
            raise ValueError(f"colour must be #rrggbb, such as {COLOURS[0]}, got {self.colour!r}")
        _check_number("photos", len(self.photos), _MOST_PHOTOS)
        _check_number("aliases", len(self.aliases), _MOST_ALIASES)
        _check_number("variants", len(self.variants), _MOST_VARIANTS)
        _check_different("alias", (self.name, *self.aliases))
        _check_different("variant", [variant.name for variant in self.variants])

    @property
    def all_photos(self) -> Iterator[CastPhoto]:
        """The character's photos, then those of its variants."""
        yield from self.photos
        for variant in self.variants:
            yield from variant.photos

    @property
    def files(self) -> dict[str, KeptFile]:
        """Every file that it names, by its path in the character's folder."""
        return {file.file: file for photo in self.all_photos for file in photo.files}


def _check_number(what: str, number: int, most: int) -> None:
    if number > most:
        raise ValueError(f"{what} must be at most {most}, got {number}")


def _check_different(what: str, names: list[str] | tuple[str, ...]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        if (key := name_key(name)) in seen:
            raise ValueError(f"{what} {name!r} is the same name as {seen[key]!r}: names must differ in their letters")
        seen[key] = name


def entries(character: CharacterFile) -> dict[str, Any]:
    """The fields that `character.json` has, by name."""
    return {field.name: getattr(character, field.name) for field in fields(CharacterFile)}


def as_text(character: CharacterFile) -> str:
    """What `character.json` holds."""
    told = asdict(CharacterFile(**entries(character)))
    return json.dumps({"format": FORMAT, **told}, indent=2, ensure_ascii=False) + "\n"


def parse_character(text: str, path: Path | str) -> CharacterFile:
    """Read what `as_text` wrote.

    Args:
        text: The JSON.
        path: Of its file, for messages.

    Raises:
        ValueError: no JSON, of another version, or with an entry that cannot be.
    """
    from pydantic import ValidationError

    remedy = "mend it, or import the character again"
    data = parse_object(text, path, remedy)
    if (version := data.pop("format", None)) != FORMAT:
        raise ValueError(f"{path} must be a character of the format {FORMAT!r}, got {version!r}: update anystory")
    try:
        # As JSON: there a list is a tuple's only form, and nothing else is taken for anything else.
        return _checks().validate_json(json.dumps(data))
    except ValidationError as error:
        raise ValueError(f"{path} is damaged ({why_invalid(error)}): {remedy}") from None


@cache
def _checks() -> TypeAdapter[CharacterFile]:
    """Made once: it takes longer than to read a hundred characters."""
    from pydantic import TypeAdapter

    return TypeAdapter(CharacterFile)
