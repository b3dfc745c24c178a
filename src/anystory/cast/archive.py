"""A character as one zip: written, and read from anybody."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from anystory.cast.keeping import MOST_BYTES, keep
from anystory.cast.schema import (
    CHARACTER_FILE,
    CUTOUTS,
    MASKS,
    PHOTOS,
    CastPhoto,
    CharacterFile,
    KeptFile,
    as_text,
    parse_character,
)
from anystory.files import atomic_write
from anystory.input_files import MOST_PICTURE, read_bytes, refuse_special
from anystory.subjects import Subject
from anystory.subjects.pictures import load_mask, load_picture

__all__ = ["check_archive", "export_character", "unpack"]

_MOST_TEXT = 2**22
_MOST_DIRECTORY = 2**22
"""Bytes of a zip's list of entries: ours take a hundredth."""
_END, _LOCATOR = b"PK\x05\x06", b"PK\x06\x07"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_REMEDY = "give a zip as `anystory cast export` writes it"


def export_character(
    character: CharacterFile, folder: Path, path: Path, *, photos: bool = True, overwrite: bool = False
) -> None:
    """Write a character as a zip; the same character gives the same bytes.

    Args:
        character: What its file says.
        folder: Where its files lie.
        path: The zip.
        photos: Whether the photos and masks as they were given go with it.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileExistsError: `path` exists.
        ValueError: a file is not what it was.
        OSError: a file cannot be read or written.
    """
    told = character if photos else _without_photos(character)
    with atomic_write(path, overwrite=overwrite) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        text = as_text(told).encode()
        archive.writestr(zipfile.ZipInfo(CHARACTER_FILE, _EPOCH), text, compress_type=zipfile.ZIP_DEFLATED)
        for name, file in sorted(told.files.items()):
            data = read_bytes(folder / name, MOST_PICTURE)
            if hashlib.sha256(data).hexdigest() != file.sha256:
                raise ValueError(f"{folder / name} is not what it was when it was added: put it back, or add it again")
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, compress_type=zipfile.ZIP_STORED)


def check_archive(path: Path) -> CharacterFile:
    """Read all of a zip, and check every picture in it. Nothing is written but temporary files.

    Raises:
        ValueError: no zip, a damaged one, one with other files, links or too much in it, or a picture that cannot be
            used.
        OSError: it cannot be read.
    """
    with _opened(path) as archive:
        character = _described(archive, path)
        _check_entries(archive, path, character)
        with TemporaryDirectory(prefix="anystory-cast-") as folder:
            for photo in character.all_photos:
                _check_photo(archive, path, photo, Path(folder))
    return character


def unpack(path: Path, character: CharacterFile, folder: Path) -> CharacterFile:
    """Write the files of a checked zip into a character's folder, under names of our own.

    Args:
        path: The zip.
        character: What `check_archive` read; its words may have been changed.
        folder: The character's.

    Raises:
        ValueError: the zip is not the one that was checked.
    """
    with _opened(path) as archive:

        def kept(file: KeptFile, room: str) -> KeptFile:
            name = Path(file.file)
            start = name.stem.rpartition("-")[0] or name.stem
            return keep(folder, room, (start, name.suffix, _read(archive, path, file)))

        def photo(one: CastPhoto) -> CastPhoto:
            return replace(
                one,
                photo=None if one.photo is None else kept(one.photo, PHOTOS),
                mask=None if one.mask is None else kept(one.mask, MASKS),
                cutout=kept(one.cutout, CUTOUTS),
            )

        return _with_photos(character, photo)


def _with_photos(character: CharacterFile, change: Callable[[CastPhoto], CastPhoto]) -> CharacterFile:
    return replace(
        character,
        photos=tuple(map(change, character.photos)),
        variants=tuple(replace(one, photos=tuple(map(change, one.photos))) for one in character.variants),
    )


def _without_photos(character: CharacterFile) -> CharacterFile:
    return _with_photos(character, lambda one: replace(one, photo=None, mask=None))


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip, with everything that goes wrong while it is read in words."""
    refuse_special(path)
    _check_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError, struct.error) as error:
        said = str(error) or type(error).__name__
        raise ValueError(f"{path} is damaged ({said}): download or copy it again") from None


def _check_directory(path: Path) -> None:
    """Refuse a zip whose list of entries alone would fill the memory; Python reads all of it."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 2**16 - 22, 0))
        end = file.read()
    at = end.rfind(_END)
    if at < 0 or len(end) < at + 22:
        raise ValueError(f"{path} is no zip, or only a part of one: {_REMEDY}")
    listed = int.from_bytes(end[at + 12 : at + 16], "little")
    if listed > _MOST_DIRECTORY or end[max(at - 20, 0) : at].startswith(_LOCATOR) or size > MOST_BYTES + 2**24:
        raise ValueError(f"{path} holds far more than a character: {_REMEDY}")


def _described(archive: zipfile.ZipFile, path: Path) -> CharacterFile:
    try:
        info = archive.getinfo(CHARACTER_FILE)
    except KeyError:
        raise ValueError(f"{path} holds no {CHARACTER_FILE}: {_REMEDY}") from None
    _check_entry(info, path, _MOST_TEXT)
    try:
        text = _bytes_of(archive, info).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: {CHARACTER_FILE} is no text in UTF-8: {_REMEDY}") from None
    return parse_character(text, f"{path}: {CHARACTER_FILE}")


def _check_entries(archive: zipfile.ZipFile, path: Path, character: CharacterFile) -> None:
    """Everything that is named is there, once, as a file of a possible size; and nothing else."""
    wanted, seen = {CHARACTER_FILE, *character.files}, set()
    for info in archive.infolist():
        if info.filename in (f"{room}/" for room in (PHOTOS, MASKS, CUTOUTS)):
            continue
        _check_entry(info, path, MOST_PICTURE)
        if info.filename not in wanted:
            raise ValueError(f"{path} holds {info.filename!r}, which its {CHARACTER_FILE} does not name: {_REMEDY}")
        if info.filename in seen:
            raise ValueError(f"{path} holds {info.filename!r} twice: {_REMEDY}")
        seen.add(info.filename)
    if missing := sorted(wanted - seen):
        raise ValueError(f"{path} lacks {missing[0]!r}: {_REMEDY}")
    size = sum(info.file_size for info in archive.infolist())
    if size > MOST_BYTES:
        raise ValueError(f"{path} would take {size / 2**20:,.0f} MiB, more than {MOST_BYTES / 2**20:,.0f}: {_REMEDY}")


def _check_entry(info: zipfile.ZipInfo, path: Path, most: int) -> None:
    name = info.filename.replace("\\", "/")
    if name.startswith("/") or ":" in name or ".." in name.split("/"):
        raise ValueError(f"{path} holds {info.filename!r}, a path that leads out of its folder: {_REMEDY}")
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise ValueError(f"{path} holds {info.filename!r}, which is a link or no file: {_REMEDY}")
    if info.flag_bits & 1:
        raise ValueError(f"{path} holds {info.filename!r} encrypted: {_REMEDY}")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{path} holds {info.filename!r} packed in an unusual way: {_REMEDY}")
    if info.header_offset < 0:
        raise zipfile.BadZipFile(f"{info.filename!r} begins before the file does")
    if info.file_size > most:
        raise ValueError(f"{path} holds {info.filename!r} of {info.file_size / 2**20:,.0f} MiB: {_REMEDY}")


def _check_photo(archive: zipfile.ZipFile, path: Path, photo: CastPhoto, folder: Path) -> None:
    """Every picture can be decoded, and the cut-out can be drawn from without another look at its background."""
    for file in photo.files:
        target = folder / Path(file.file).name
        target.write_bytes(_read(archive, path, file))
        try:
            if file is photo.mask:
                load_mask(target)
            elif load_picture(target).alpha is None and file is photo.cutout:
                raise ValueError(f"image {str(target)!r} has no transparent background, which a cut-out has")
            if file is photo.cutout:
                Subject(target).read()
        except ValueError as error:
            said = str(error).replace(str(target), file.file)
            raise ValueError(f"{path}: {said}: {_REMEDY}") from None
        target.unlink()


def _read(archive: zipfile.ZipFile, path: Path, file: KeptFile) -> bytes:
    data = _bytes_of(archive, archive.getinfo(file.file))
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise ValueError(f"{path}: {file.file} is not what {CHARACTER_FILE} says: download or copy the zip again")
    return data


def _bytes_of(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """An entry; Python gives no more than the size that the zip says, which was checked, and compares a sum."""
    with archive.open(info) as file:
        return file.read(info.file_size + 1)
