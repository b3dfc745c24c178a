"""`/v1/characters`: each key's library of characters, to be named in requests and stories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, File, Form, Response, UploadFile
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from anystory.cast import Character, Library
from anystory.serving.api.common import ERRORS, Caller, Served
from anystory.serving.api.given import find_character, find_upload
from anystory.serving.api.schemas import Part
from anystory.serving.errors import ApiError
from anystory.serving.keys import ApiKey
from anystory.serving.service import Service

__all__ = ["router"]

router = APIRouter(prefix="/v1/characters", tags=["characters"], responses=ERRORS)

Name = Annotated[str, Field(min_length=1, max_length=200)]
UploadId = Annotated[str, Field(max_length=64)]
Result = TypeVar("Result")


class PhotosRequest(Part):
    """Photos of a character."""

    uploads: Annotated[list[UploadId], Field(min_length=1, max_length=50)]
    """Ids of uploads."""
    masks: list[UploadId | None] | None = None
    """For each an upload that is white where the character is, or null."""
    segmenter: Literal["auto", "border", "grabcut", "none"] = "auto"
    """How to cut out photos with neither mask nor transparency."""


class CharacterRequest(PhotosRequest):
    """A new character."""

    name: Name
    """In any script; no other character of yours may have it."""
    aliases: Annotated[list[Name], Field(max_length=50)] = Field(default_factory=list)
    description: Annotated[str, Field(max_length=500)] = ""
    """What a prompt says in its place: "a striped blue fox with a red hat"."""
    colour: Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")] | None = None
    notes: Annotated[str, Field(max_length=10_000)] = ""
    licence: Annotated[str, Field(max_length=200)] = ""


class VariantRequest(PhotosRequest):
    """Another look of a character."""

    name: Name
    description: Annotated[str, Field(max_length=500)] = ""


class CharacterChange(Part):
    """What is to be changed; what is left out stays."""

    name: Name | None = None
    description: Annotated[str, Field(max_length=500)] | None = None
    colour: Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")] | None = None
    notes: Annotated[str, Field(max_length=10_000)] | None = None
    licence: Annotated[str, Field(max_length=200)] | None = None
    add_aliases: Annotated[list[Name], Field(max_length=50)] = Field(default_factory=list)
    drop_aliases: Annotated[list[Name], Field(max_length=50)] = Field(default_factory=list)


class CharacterAnswer(BaseModel):
    """A character."""

    id: str
    """Stays the same when its name changes."""
    object: Literal["character"] = "character"
    name: str
    aliases: list[str]
    description: str
    colour: str
    notes: str
    licence: str
    photos: list[dict[str, Any]]
    """Each with its cut-out's `url`, how the subject was found, and how far to trust that (0…1)."""
    variants: dict[str, dict[str, Any]]
    """By name: description and photos."""


@router.get("")
def list_characters(service: Served, key: Caller) -> list[CharacterAnswer]:
    """Your characters, by name."""
    return [_answer(one) for one in _library(service, key)]


@router.post("", status_code=201)
def add_character(service: Served, key: Caller, body: CharacterRequest) -> CharacterAnswer:
    """Add a character from pictures that you sent before."""
    library = _library(service, key)
    if len(library) >= service.settings.bounds.characters:
        most = service.settings.bounds.characters
        raise ApiError(429, f"you have {most} characters, the most that this server keeps: remove some")
    photos, masks = _photos(service, key, body)
    words = {name: getattr(body, name) for name in ("aliases", "description", "colour", "notes", "licence")}
    return _answer(_tried(lambda: library.add(body.name, photos, masks, segmenter=body.segmenter, **words)))


@router.post("/import", status_code=201)
def import_character(
    service: Served,
    key: Caller,
    file: Annotated[UploadFile, File()],
    rename: Annotated[str | None, Form(max_length=200)] = None,
) -> CharacterAnswer:
    """Add the character of a zip that `/export`, or `anystory cast export`, wrote."""
    with TemporaryDirectory(prefix="import-", dir=service.data.root) as folder:
        path = Path(folder, "character.zip")
        path.write_bytes(file.file.read())
        return _answer(_tried(lambda: _library(service, key).import_zip(path, rename=rename)))


@router.get("/{character}")
def get_character(service: Served, key: Caller, character: str) -> CharacterAnswer:
    """A character by its id or name."""
    return _answer(_found(service, key, character))


@router.patch("/{character}")
def change_character(service: Served, key: Caller, character: str, body: CharacterChange) -> CharacterAnswer:
    """Change a character's words."""
    found = _found(service, key, character)
    words = body.model_dump(exclude_unset=True)
    words |= {"new_name": words.pop("name", None)}
    return _answer(_tried(lambda: _library(service, key).edit(found.name, **words)))


@router.delete("/{character}", status_code=204)
def remove_character(service: Served, key: Caller, character: str) -> Response:
    """Remove a character. Jobs that were accepted with it keep its pictures."""
    found = _found(service, key, character)
    _tried(lambda: _library(service, key).remove(found.name))
    return Response(status_code=204)


@router.post("/{character}/variants", status_code=201)
def add_variant(service: Served, key: Caller, character: str, body: VariantRequest) -> CharacterAnswer:
    """Add another look of a character."""
    found = _found(service, key, character)
    photos, masks = _photos(service, key, body)
    given = {"segmenter": body.segmenter, "description": body.description}
    return _answer(_tried(lambda: _library(service, key).add_variant(found.name, body.name, photos, masks, **given)))


@router.get("/{character}/photos/{number}", response_class=FileResponse)
def get_cutout(service: Served, key: Caller, character: str, number: int, variant: str | None = None) -> FileResponse:
    """A photo of a character, cut out."""
    found = _found(service, key, character)
    cutouts = _tried(lambda: found.cutouts(variant))
    if not 1 <= number <= len(cutouts):
        raise ApiError(404, f"there is no photo {number}: {found.name} has {len(cutouts)}", code="not_found")
    return FileResponse(cutouts[number - 1], media_type="image/png")


@router.get("/{character}/export", response_class=Response)
def export_character(service: Served, key: Caller, character: str, photos: bool = True) -> Response:
    """A character as a zip that others can import; without `photos` only its cut-outs go with it."""
    found = _found(service, key, character)
    with TemporaryDirectory(prefix="export-", dir=service.data.root) as folder:
        path = Path(folder, "character.zip")
        _tried(lambda: _library(service, key).export(found.name, path, photos=photos))
        where = {"Content-Disposition": f'attachment; filename="{_plain(found.folder.name)}.zip"'}
        return Response(path.read_bytes(), media_type="application/zip", headers=where)


def _plain(name: str) -> str:
    return "".join(one if (one.isascii() and one.isalnum()) or one in "-_" else "_" for one in name)


def _library(service: Service, key: ApiKey) -> Library:
    return Library(service.data.cast(key.name))


def _found(service: Service, key: ApiKey, reference: str) -> Character:
    return find_character(service, key, reference, "character")[0]


def _photos(service: Service, key: ApiKey, body: PhotosRequest) -> tuple[list[Path], Sequence[Path | None] | None]:
    def path(upload: str) -> Path:
        return service.uploads.path(find_upload(service, key, upload, "uploads"))

    masks = body.masks
    if masks is not None and len(masks) != len(body.uploads):
        raise ApiError(400, "`masks` has an entry, or null, for each of `uploads`", param="masks")
    cut = None if masks is None else [None if mask is None else path(mask) for mask in masks]
    return list(map(path, body.uploads)), cut


def _tried(work: Callable[[], Result]) -> Result:
    """What the library does.

    Raises:
        ApiError: what it refuses, without the folders of this machine.
    """
    try:
        return work()
    except (ValueError, FileNotFoundError) as error:
        said = str(error.args[0]) if isinstance(error, KeyError) else str(error)
        words = [word if "/" not in word else "…" + word[word.rindex("/") :] for word in said.split()]
        raise ApiError(400, " ".join(words)) from None


def _answer(character: Character) -> CharacterAnswer:
    identity = character.folder.name

    def photos(variant: str | None) -> list[dict[str, Any]]:
        more = "" if variant is None else f"?variant={variant}"
        return [
            {
                "url": f"/v1/characters/{identity}/photos/{number}{more}",
                "found_by": photo.found_by,
                "confidence": photo.confidence,
            }
            for number, photo in enumerate(character.photos_of(variant), start=1)
        ]

    words = {name: getattr(character, name) for name in ("name", "description", "colour", "notes", "licence")}
    return CharacterAnswer(
        id=identity,
        aliases=list(character.aliases),
        photos=photos(None),
        variants={
            look.name: {"description": look.description, "photos": photos(look.name)} for look in character.variants
        },
        **words,
    )
