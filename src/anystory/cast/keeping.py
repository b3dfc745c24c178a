"""Photos on their way into a character's folder: read, cut out, and written under a name that tells their content."""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from anystory.cast.character import Character
from anystory.cast.names import folder_name
from anystory.cast.schema import CHARACTER_FILE, CUTOUTS, MASKS, PHOTOS, CastPhoto, CharacterFile, KeptFile
from anystory.files import atomic_write, sha256_file, without_surrogates
from anystory.input_files import MOST_PICTURE, read_bytes
from anystory.subjects import Subject
from anystory.subjects.cutout import LOW_CONFIDENCE
from anystory.subjects.pictures import Source, describe, load_mask, load_picture, picture_endings
from anystory.subjects.prepare import CutPicture

__all__ = ["MOST_BYTES", "CutPhoto", "check_removable", "check_size", "cut_photos", "keep", "sweep", "write_photo"]

MOST_BYTES = 2**30
"""The most that one character's files take together."""

_OURS = re.compile(r".+-([0-9a-f]{16})(\.\w+)?")
"""A kept file: its name ends with the beginning of its hash."""

_UNFINISHED = re.compile(r"\..*\.[0-9a-f]{8}(\.\w+)?")
"""What a killed `atomic_write` leaves."""

File: TypeAlias = "tuple[str, str, bytes]"
"""The beginning of its name, its ending with the dot, what it holds."""


@dataclass(frozen=True, kw_only=True)
class CutPhoto:
    """A photo that was read and cut out."""

    photo: File
    mask: File | None
    cutout: bytes
    """A PNG; see `CastPhoto.cutout`."""
    found_by: str
    confidence: float


def cut_photos(photos: Sequence[Source], masks: Sequence[Source | None] | None, segmenter: str) -> list[CutPhoto]:
    """Read photos and cut their subject out, as a `Subject` does. Warns of cut-outs that are uncertain.

    Args:
        photos: Paths, or pictures of any kind; see `load_picture`.
        masks: None, or a mask or None for each photo.
        segmenter: See `Subject.segmenter`.

    Raises:
        ValueError: a picture or mask that cannot be used, or no subject found in it.
        FileNotFoundError: no such file.
    """
    given = Subject(list(photos), None if masks is None else list(masks), segmenter=segmenter)
    found = []
    for photo in given.photos:
        cut = photo.read().image
        assert isinstance(cut, CutPicture)
        kept = _photo_file(photo.image)
        if isinstance(photo.image, (str, os.PathLike)) and hashlib.sha256(kept[2]).hexdigest() != cut.sha256:
            raise ValueError(f"{describe(photo.image)} was changed while it was read: try again")
        if cut.confidence < LOW_CONFIDENCE:
            warnings.warn(
                f"image {cut.label}: the cut-out is uncertain (by {cut.method}, confidence {cut.confidence:.2f}). Look "
                'at it with `anystory cast show --card`; give a mask, or a segmenter such as "u2netp"',
                stacklevel=3,
            )
        found.append(
            CutPhoto(
                photo=kept,
                mask=None if photo.mask is None else _mask_file(photo.mask),
                cutout=_cutout_png(cut),
                # A model's folder is nobody else's business.
                found_by=Path(cut.method).name if os.path.exists(cut.method) else cut.method,
                confidence=cut.confidence,
            )
        )
    return found


def write_photo(cut: CutPhoto, folder: Path) -> CastPhoto:
    """Write a photo, its mask and its cut-out into a character's folder."""
    return CastPhoto(
        photo=keep(folder, PHOTOS, cut.photo),
        mask=None if cut.mask is None else keep(folder, MASKS, cut.mask),
        cutout=keep(folder, CUTOUTS, (cut.photo[0], ".png", cut.cutout)),
        found_by=cut.found_by,
        confidence=cut.confidence,
    )


def keep(folder: Path, room: str, file: File) -> KeptFile:
    """Write a file into a room of a character's folder, unless it is there; its name tells its content.

    Args:
        folder: The character's.
        room: `PHOTOS`, `MASKS` or `CUTOUTS`.
        file: Any name will do: only its letters are kept.
    """
    start, suffix, data = file
    digest = hashlib.sha256(data).hexdigest()
    ending = suffix.lower() if suffix.lower() in picture_endings() else ""
    path = folder / room / f"{folder_name(without_surrogates(start))}-{digest[:16]}{ending}"
    if not path.is_file() or sha256_file(path) != digest:
        with atomic_write(path) as temporary:
            temporary.write_bytes(data)
    return KeptFile(file=f"{room}/{path.name}", sha256=digest)


def sweep(folder: Path, character: CharacterFile) -> None:
    """Delete files that the library wrote into a character's folder and that the character no longer has."""
    for path in (*_in_rooms(folder), *_unfinished(folder)):
        if path.relative_to(folder).as_posix() not in character.files and _is_ours(path):
            path.unlink(missing_ok=True)


def check_size(folder: Path, character: CharacterFile) -> None:
    """Refuse a character whose files take more than `MOST_BYTES`: nobody could import it."""
    size = sum((folder / file).stat().st_size for file in character.files if (folder / file).is_file())
    if size > MOST_BYTES:
        raise ValueError(
            f"the files of {character.name} would take {size / 2**20:,.0f} MiB, more than {MOST_BYTES / 2**20:,.0f}: "
            "give fewer or smaller photos"
        )


def check_removable(character: Character, variant: str | None) -> None:
    """Refuse to remove a variant that is not there, or a character whose folder holds what somebody else put there."""
    if variant is not None:
        character.variant(variant)
        return
    foreign = [] if character.folder.is_symlink() else _foreign_files(character.folder, character)
    if foreign:
        shown = ", ".join(map(str, foreign[:3]))
        raise ValueError(f"{character.name} stays: the library did not write {shown}; move it away first")


def _foreign_files(folder: Path, character: CharacterFile) -> list[Path]:
    known = {folder / file for file in (CHARACTER_FILE, PHOTOS, MASKS, CUTOUTS, *character.files)}
    ours = {path for path in (*_in_rooms(folder), *_unfinished(folder)) if _is_ours(path)}
    return sorted(set(folder.rglob("*")) - known - ours)


def _in_rooms(folder: Path) -> list[Path]:
    return [path for room in (PHOTOS, MASKS, CUTOUTS) for path in (folder / room).glob("*")]


def _unfinished(folder: Path) -> list[Path]:
    """What was to replace `character.json`."""
    return list(folder.glob(f".{Path(CHARACTER_FILE).stem}.*"))


def _is_ours(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    named = _OURS.fullmatch(path.name)
    if named is not None:
        return sha256_file(path).startswith(named[1])
    return _UNFINISHED.fullmatch(path.name) is not None


def _photo_file(source: Source) -> File:
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return path.stem, path.suffix, read_bytes(path, MOST_PICTURE)
    picture = load_picture(source)
    pixels = picture.rgb if picture.alpha is None else np.dstack((picture.rgb, picture.alpha))
    return "picture", ".png", _png(pixels)


def _mask_file(source: Source) -> File:
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return path.stem, path.suffix, read_bytes(path, MOST_PICTURE)
    return "mask", ".png", _png(load_mask(source))


def _cutout_png(cut: CutPicture) -> bytes:
    """The subject at its own size. The transparent pixel around it says that what is opaque is all of the subject."""
    visible = np.where(cut.matte[..., None] > 0, cut.rgb, np.uint8(255))  # what is cut away is not kept
    return _png(np.pad(np.dstack((visible, cut.matte)), ((1, 1), (1, 1), (0, 0))))


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)  # a photo gets hardly smaller by more
    return buffer.getvalue()
