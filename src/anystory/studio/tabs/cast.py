"""The library of characters as the page shows and changes it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from anystory.cast import Character, Library
from anystory.cast.schema import CastPhoto
from anystory.studio.packed import png_bytes
from anystory.studio.session import Session
from anystory.studio.told import as_field
from anystory.subjects import Subject
from anystory.subjects.cutout import LOW_CONFIDENCE
from anystory.subjects.pictures import load_picture

__all__ = ["ACTIONS", "card_file", "cutout_layer", "exported_zip"]

_LARGEST = 1024
"""Longer side of a picture in the brush, in pixels."""


def shown(session: Session) -> dict[str, Any]:
    """Everything in the library."""
    shelf = Library(session.settings.library).read()
    return {
        "folder": str(shelf.folder),
        "characters": [_card(one) for one in shelf.characters],
        "damaged": list(shelf.damaged),
    }


def _card(one: Character) -> dict[str, Any]:
    return {
        "name": one.name,
        "folder": one.folder.name,
        "aliases": list(one.aliases),
        "description": one.description,
        "colour": one.colour,
        "notes": one.notes,
        "licence": one.licence,
        "photos": [_photo(photo) for photo in one.photos],
        "variants": [
            {
                "name": variant.name,
                "description": variant.description,
                "photos": [_photo(photo) for photo in variant.photos],
            }
            for variant in one.variants
        ],
    }


def _photo(photo: CastPhoto) -> dict[str, Any]:
    return {
        "cutout": photo.cutout.file,
        "photo": None if photo.photo is None else photo.photo.file,
        "found_by": photo.found_by,
        "confidence": round(photo.confidence, 2),
        "uncertain": photo.confidence < LOW_CONFIDENCE,
    }


def card_file(session: Session, folder: str, file: str) -> Path:
    """A character's file, if the library knows it.

    Raises:
        ValueError: it does not.
    """
    for one in Library(session.settings.library):
        if one.folder.name == folder and file in one.files:
            return one.folder / file
    raise ValueError("this picture is not in the library any more: reload the page")


def cut(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """How a picture was cut out: an upload, or a photo that the library has."""
    return {key: value for key, value in _cut(session, payload).items() if key in ("confidence", "uncertain", "method")}


def cutout_layer(session: Session, payload: dict[str, Any], layer: str) -> bytes:
    """A picture and where its subject is, at the brush's size, as a PNG.

    Args:
        session: Whose.
        payload: Which picture.
        layer: "picture" (RGB), "matte" (grey), or "cut": the subject's pixels on a transparent background.

    Raises:
        ValueError: no picture, or no such layer.
    """
    found = _cut(session, payload)
    layers = {"picture": found["rgb"], "matte": found["matte"], "cut": np.dstack((found["rgb"], found["matte"]))}
    if layer not in layers:
        raise ValueError(f"there is no layer {layer!r}")
    return png_bytes(Image.fromarray(layers[layer]))


def _cut(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """The picture and the matte, no larger than the brush's canvas. Without a subject, everything is the subject's."""
    source, mask = _source(session, payload)
    with as_field("photo"):
        picture = load_picture(source)
    try:
        _, found = Subject(source, mask, segmenter=payload.get("segmenter") or "auto").whole()
        matte, told = found.matte, {"confidence": round(found.confidence, 2), "method": found.method}
        told["uncertain"] = found.confidence < LOW_CONFIDENCE
    except ValueError:
        matte = np.full(picture.rgb.shape[:2], 255, np.uint8)
        told = {"confidence": 0.0, "method": "none", "uncertain": True}
    height, width = picture.rgb.shape[:2]
    factor = min(1.0, _LARGEST / max(height, width))
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    rgb = np.asarray(Image.fromarray(picture.rgb).resize(size, Image.Resampling.LANCZOS))
    return {
        **told,
        "rgb": rgb,
        "matte": np.asarray(Image.fromarray(matte).resize(size, Image.Resampling.BILINEAR)),
    }


def _source(session: Session, payload: dict[str, Any]) -> tuple[Path, Path | None]:
    """The file of an upload or of a photo in the library, and its mask if there is one."""
    if upload := payload.get("upload"):
        return session.upload(upload), None
    character = Library(session.settings.library)[payload["name"]]
    photo = character.photos_of(payload.get("variant"))[int(payload["photo"]) - 1]
    path = character.folder / (photo.photo or photo.cutout).file
    mask = None if photo.mask is None or photo.photo is None else character.folder / photo.mask.file
    return path, mask


def add(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """Add a character, or a variant of one, from an upload and the mask that was painted."""
    library = Library(session.settings.library)
    source, mask = session.upload(payload["upload"]), payload.get("mask")
    masks = [session.upload(mask)] if mask else None
    with as_field("name"), _unwarned(), _fitting(source, masks) as fitted:
        if variant_of := payload.get("variant_of"):
            one = library.add_variant(
                variant_of, payload["name"], [source], fitted, description=payload.get("description", "")
            )
        else:
            one = library.add(payload["name"], [source], fitted, description=payload.get("description", ""))
    return {"added": one.name, **shown(session)}


@contextmanager
def _fitting(source: Path, masks: list[Path] | None) -> Iterator[list[Path] | None]:
    """A painted mask has the brush's size: it is brought to the picture's."""
    if masks is None:
        yield None
        return
    picture = load_picture(source)
    with TemporaryDirectory(prefix="anystory-mask-") as folder:
        path = Path(folder, "mask.png")
        with Image.open(masks[0]) as mask:
            size = (picture.rgb.shape[1], picture.rgb.shape[0])
            mask.convert("L").resize(size, Image.Resampling.BILINEAR).save(path)
        yield [path]


def edit(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """Change a character's or a variant's words."""
    library, variant = Library(session.settings.library), payload.get("variant")
    words = {name: payload.get(name) for name in ("new_name", "description", "colour", "notes", "licence")}
    aliases = payload.get("aliases")
    more: dict[str, Any] = {}
    if aliases is not None:
        old = library[payload["name"]].aliases
        more = {
            "add_aliases": [one for one in aliases if one not in old],
            "drop_aliases": [one for one in old if one not in aliases],
        }
    with as_field("name"):
        one = library.edit(payload["name"], variant, **words, **more)
    return {"name": one.name, **shown(session)}


def add_photo(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """Give a character a further photo, or a photo another cut-out in its place."""
    library = Library(session.settings.library)
    source, own = _source(session, payload)
    mask = payload.get("mask")
    drop = [int(payload["photo"])] if payload.get("photo") else []
    masks = [session.upload(mask)] if mask else None
    with as_field("photo"), _unwarned(), TemporaryDirectory(prefix="anystory-photo-") as folder:
        copy = Path(folder, source.name)  # its own file may go with the photo that it replaces
        copy.write_bytes(source.read_bytes())
        with _fitting(copy, masks) as fitted:
            given = fitted or (None if own is None else [own])
            library.edit(payload["name"], payload.get("variant"), add_photos=[copy], masks=given, drop_photos=drop)
    return shown(session)


def drop_photo(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """Take a photo away; the last one stays."""
    with as_field("photo"):
        Library(session.settings.library).edit(
            payload["name"], payload.get("variant"), drop_photos=[int(payload["photo"])]
        )
    return shown(session)


def remove(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """Remove a character, or a variant of one."""
    Library(session.settings.library).remove(payload["name"], payload.get("variant"))
    return shown(session)


def import_zip(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """Add the character of a zip that a library exported."""
    path = session.upload(payload["upload"])
    with as_field("import"):
        try:
            one = Library(session.settings.library).import_zip(path, rename=payload.get("rename") or None)
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), path.name)) from None
    return {"added": one.name, **shown(session)}


def exported_zip(session: Session, name: str) -> tuple[str, bytes]:
    """A character as a zip for others, and the zip's name."""
    with TemporaryDirectory(prefix="anystory-export-") as folder:
        library = Library(session.settings.library)
        path = Path(folder, f"{library[name].folder.name}.zip")
        library.export(name, path)
        return path.name, path.read_bytes()


@contextmanager
def _unwarned() -> Iterator[None]:
    """An uncertain cut-out is shown on its card: the command line's words for it are left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


ACTIONS: dict[str, Callable[[Session, dict[str, Any]], dict[str, Any]]] = {
    "cast": lambda session, payload: shown(session),
    "cast.cut": cut,
    "cast.add": add,
    "cast.edit": edit,
    "cast.photo": add_photo,
    "cast.drop_photo": drop_photo,
    "cast.remove": remove,
    "cast.import": import_zip,
}
"""What the page may ask for."""
