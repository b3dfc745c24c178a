"""A character's zip: what is exported is imported, and nothing of a bad zip stays."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anystory.cast import Library, archive
from anystory.cast.schema import entries
from anystory.files import sha256_file


@pytest.fixture(scope="module")
def shared(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip of Mara (`blue.png` with its mask, alias Mimi), with the variant winter (`green.png`)."""
    folder = tmp_path_factory.mktemp("shared")
    library = Library(folder / "library")
    library.add("Mara", [photos / "blue.png"], [photos / "blue-mask.png"], aliases=["Mimi"], notes="one\ntwo")
    library.add_variant("Mara", "winter", [photos / "green.png"], description="in a coat")
    library.export("mara", folder / "mara.zip")
    return folder / "mara.zip"


def read(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as zipped:
        return {name: zipped.read(name) for name in zipped.namelist()}


def write(path: Path, contents: dict[str, bytes], **how: Any) -> Path:
    with zipfile.ZipFile(path, "w", **how) as zipped:
        for name, data in contents.items():
            zipped.writestr(name, data)
    return path


# --- what is exported is imported ---


def test_a_character_comes_through_its_zip(library, shared, photos):
    before = Library(shared.parent / "library")["Mara"]
    imported = library.import_zip(shared)
    assert entries(imported) == entries(before)
    assert imported.folder == library.folder / "mara"
    assert library["mimi"] == imported
    for file in imported.files.values():
        assert sha256_file(imported.folder / file.file) == file.sha256
    assert imported.originals()[0].read_bytes() == (photos / "blue.png").read_bytes()


def test_the_same_character_gives_the_same_bytes(shared, tmp_path):
    library = Library(shared.parent / "library")
    library.export("MIMI", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == shared.read_bytes()


def test_photos_may_stay_at_home(library, shared, tmp_path):
    home = Library(shared.parent / "library")
    home.export("Mara", tmp_path / "cuts.zip", photos=False)
    assert {name.partition("/")[0] for name in read(tmp_path / "cuts.zip")} == {"character.json", "cutouts"}
    imported = library.import_zip(tmp_path / "cuts.zip")
    assert [photo.photo for photo in imported.all_photos] == [None, None]
    assert imported.originals() == imported.cutouts()
    ours, theirs = imported.subject().prepare(32), home["Mara"].subject().prepare(32)
    assert np.array_equal(np.asarray(ours.image), np.asarray(theirs.image))
    library.export("Mara", tmp_path / "cuts-again.zip")
    assert (tmp_path / "cuts-again.zip").read_bytes() == (tmp_path / "cuts.zip").read_bytes()


def test_nothing_is_overwritten_unless_told(shared, tmp_path):
    library = Library(shared.parent / "library")
    (tmp_path / "mara.zip").write_text("mine")
    with pytest.raises(FileExistsError):
        library.export("Mara", tmp_path / "mara.zip")
    assert (tmp_path / "mara.zip").read_text() == "mine"
    library.export("Mara", tmp_path / "mara.zip", overwrite=True)
    assert (tmp_path / "mara.zip").read_bytes() == shared.read_bytes()


def test_a_damaged_character_is_not_exported(library, shared, tmp_path):
    character = library.import_zip(shared)
    character.originals()[0].write_bytes(b"other")
    with pytest.raises(ValueError, match=r"photos/blue-.*png is not what it was when it was added"):
        library.export("Mara", tmp_path / "mara.zip")
    assert not (tmp_path / "mara.zip").exists()


def test_a_taken_name_is_named_and_can_be_another(library, shared, photos):
    library.import_zip(shared)
    with pytest.raises(ValueError, match="the name 'Mara' is taken .*: it is the name of 'Mara'; give it another name"):
        library.import_zip(shared)
    with pytest.raises(ValueError, match=r"the alias 'Mimi' is taken .* leave the alias out .--drop-alias"):
        library.import_zip(shared, rename="Anna")
    anna = library.import_zip(shared, rename=" Anna ", drop_aliases=["MIMI"])
    assert (anna.names, anna.folder.name) == (("Anna",), "anna")
    with pytest.raises(ValueError, match="Mara has no alias 'Nobody': it has 'Mimi'"):
        library.import_zip(shared, rename="Tom", drop_aliases=["Nobody"])
    with pytest.raises(ValueError, match="name 'a/b' must not hold /"):
        library.import_zip(shared, rename="a/b")
    with pytest.raises(ValueError, match="name must not be empty"):
        library.import_zip(shared, rename="")
    assert [character.name for character in library] == ["Anna", "Mara"]


def test_a_zip_packed_again_by_hand_is_read(library, shared, tmp_path):
    contents = {"photos/": b"", "cutouts/": b"", "masks/": b""} | read(shared)
    again = write(tmp_path / "again.zip", contents, compression=zipfile.ZIP_DEFLATED)
    assert library.import_zip(again).name == "Mara"


def test_names_of_files_are_ours_not_the_zips(library, shared, tmp_path):
    contents = read(shared)
    text = contents.pop("character.json").decode()
    changed = {}
    for number, name in enumerate(contents):
        other = f"{name.partition('/')[0]}/{'CON ' * 60}{number}.exe"
        text = text.replace(name, other)
        changed[other] = contents[name]
    imported = library.import_zip(write(tmp_path / "odd.zip", {"character.json": text.encode()} | changed))
    kept = sorted(path.name for path in imported.folder.rglob("*-*"))
    assert len(kept) == 5
    assert all(len(name) < 120 and not name.endswith(".exe") for name in kept)
    assert imported.subject().prepare(32).cutout == "alpha"


# --- attacks and damage ---

Change = Callable[[dict[str, bytes]], object]


def described(contents: dict[str, bytes], **changes: Any) -> None:
    contents["character.json"] = json.dumps(json.loads(contents["character.json"]) | changes).encode()


def with_file(contents: dict[str, bytes], kind: str, data: bytes) -> None:
    """Put other bytes in the place of the first photo's file of a kind, with the hash that belongs to them."""
    told = json.loads(contents["character.json"])
    file = told["photos"][0][kind]
    contents[file["file"]], file["sha256"] = data, hashlib.sha256(data).hexdigest()
    contents["character.json"] = json.dumps(told).encode()


def png(pixels: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that says that it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def replace_hash(contents: dict[str, bytes]) -> None:
    name = next(name for name in contents if name.startswith("cutouts/"))
    contents[name] = png(np.full((9, 9, 4), 255))


CHANGES: dict[str, tuple[Change, str]] = {
    "no character": (lambda c: c.pop("character.json"), "holds no character.json"),
    "no JSON": (lambda c: c.update({"character.json": b"{"}), "character.json is no valid JSON"),
    "no UTF-8": (lambda c: c.update({"character.json": b"\xff"}), "character.json is no text in UTF-8"),
    "another version": (lambda c: described(c, format="anystory-character/2"), "format 'anystory-character/1', got"),
    "a wrong entry": (lambda c: described(c, colour="red"), "is damaged .*colour must be #rrggbb"),
    "a name that cannot be": (lambda c: described(c, name="../../x"), "name '../../x' must not hold /"),
    "a file outside": (lambda c: c.update({"../evil.png": b"x"}), "'../evil.png', a path that leads out of its folder"),
    "an absolute file": (lambda c: c.update({"/etc/evil": b"x"}), "'/etc/evil', a path that leads out"),
    "a drive": (lambda c: c.update({"C:evil": b"x"}), "'C:evil', a path that leads out"),
    "backslashes": (lambda c: c.update({"photos\\..\\..\\evil": b"x"}), "a path that leads out"),
    "one file more": (
        lambda c: c.update({"photos/more.png": b"x"}),
        "'photos/more.png', which its character.json does",
    ),
    "a hidden file": (lambda c: c.update({"__MACOSX/x": b"x"}), "'__MACOSX/x', which its character.json does not name"),
    "one file less": (lambda c: c.pop(sorted(c)[-1]), "lacks 'photos/"),
    "another content": (replace_hash, "is not what character.json says"),
    "a damaged photo": (lambda c: with_file(c, "photo", b"no picture"), "image 'photos/.*' is not a picture"),
    "half a photo": (lambda c: with_file(c, "photo", png(np.zeros((40, 40, 3)))[:60]), "image 'photos/.*' is damaged"),
    "a black mask": (lambda c: with_file(c, "mask", png(np.zeros((9, 9)))), "mask 'masks/.*' is empty"),
    "an opaque cut-out": (lambda c: with_file(c, "cutout", png(np.full((9, 9, 4), 255))), "has no transparent backgr"),
    "an empty cut-out": (lambda c: with_file(c, "cutout", png(np.zeros((9, 9, 4)))), "image 'cutouts/.*' is empty"),
    "a picture bomb": (lambda c: with_file(c, "photo", bomb(60_000, 60_000)), "image 'photos/.*' is too large"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_bad_zip_is_refused_whole(library, shared, tmp_path, kind):
    change, said = CHANGES[kind]
    contents = read(shared)
    change(contents)
    bad = write(tmp_path / "bad.zip", contents)
    with pytest.raises(ValueError, match=said) as raised:
        library.import_zip(bad)
    assert str(raised.value).startswith(str(bad))
    assert not library.folder.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.zip"]


def rewritten(shared: Path, path: Path, change: Callable[[zipfile.ZipInfo], None]) -> Path:
    """The zip with an entry's header changed, and its content as it is."""
    with zipfile.ZipFile(shared) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename.startswith("photos/blue"):
                change(info)
            new.writestr(info, data)
    return path


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR])
def test_links_and_devices_are_refused(library, shared, tmp_path, mode):
    def change(info: zipfile.ZipInfo) -> None:
        info.external_attr = (mode | 0o777) << 16

    with pytest.raises(ValueError, match=r"'photos/blue-.*png', which is a link or no file"):
        library.import_zip(rewritten(shared, tmp_path / "link.zip", change))
    assert not library.folder.exists()


def test_an_unusual_packing_is_refused(library, shared, tmp_path):
    def change(info: zipfile.ZipInfo) -> None:
        info.compress_type = zipfile.ZIP_LZMA

    with pytest.raises(ValueError, match="packed in an unusual way"):
        library.import_zip(rewritten(shared, tmp_path / "lzma.zip", change))


def test_an_entry_twice_is_refused(library, shared, tmp_path):
    double = tmp_path / "double.zip"
    double.write_bytes(shared.read_bytes())
    name = next(name for name in read(shared) if name.startswith("cutouts/"))
    with warnings.catch_warnings(), zipfile.ZipFile(double, "a") as zipped:
        warnings.simplefilter("ignore")
        zipped.writestr(name, b"other")
    with pytest.raises(ValueError, match=f"holds '{name}' twice"):
        library.import_zip(double)
    assert not library.folder.exists()


def spoiled(shared: Path, path: Path, start: bytes, at: int, data: bytes) -> Path:
    """The zip with bytes changed in its last record that begins with `start`."""
    raw = bytearray(shared.read_bytes())
    place = raw.rfind(start) + at
    raw[place : place + len(data)] = data
    path.write_bytes(raw)
    return path


LISTED, END = b"PK\x01\x02", b"PK\x05\x06"


@pytest.mark.parametrize(
    ("start", "at", "data", "said"),
    [
        (LISTED, 8, b"\x01\x00", "encrypted"),
        (LISTED, 24, struct.pack("<I", 3 * 2**30), "of 3,072 MiB"),
        (LISTED, 24, struct.pack("<I", 2**30), "would take 1,024 MiB, more than 1,024"),  # all files together
        (LISTED, 24, struct.pack("<I", 5), "is damaged|is not what character.json says"),
        (LISTED, 16, b"\0\0\0\0", "is damaged .Bad CRC-32"),
        (LISTED, 42, struct.pack("<I", 2**31), "is damaged"),
        (END, 12, struct.pack("<I", 2**24), "holds far more than a character"),
        (END, 0, b"XXXX", "is no zip, or only a part of one"),
        (END, 16, struct.pack("<I", 2**24), "is damaged|holds no character.json"),
    ],
)
def test_a_zip_that_lies_about_itself_is_refused(library, shared, tmp_path, start, at, data, said):
    bad = spoiled(shared, tmp_path / "bad.zip", start, at, data)
    with pytest.raises(ValueError, match=said):
        library.import_zip(bad)
    assert not library.folder.exists()


def test_a_zip_bomb_is_refused_before_it_is_unpacked(library, shared, tmp_path, monkeypatch):
    contents = read(shared)
    with_file(contents, "photo", bytes(4_000_000))
    small = write(tmp_path / "bomb.zip", contents, compression=zipfile.ZIP_DEFLATED)
    assert small.stat().st_size < 20_000
    monkeypatch.setattr(archive, "MOST_BYTES", 3_000_000)
    read_from_it = []
    monkeypatch.setattr(archive, "_read", lambda *arguments: read_from_it.append(arguments))
    with pytest.raises(ValueError, match="would take 4 MiB, more than 3"):
        library.import_zip(small)
    assert not read_from_it


def test_a_long_list_of_entries_is_refused_before_it_is_read(library, shared, tmp_path):
    """Where its true length stands elsewhere, as in zips of more than 65,535 entries, it is taken to be long."""
    raw, many = shared.read_bytes(), tmp_path / "many.zip"
    end = raw.rfind(END)
    many.write_bytes(raw[:end] + b"PK\x06\x07" + bytes(16) + raw[end:])
    with pytest.raises(ValueError, match="holds far more than a character"):
        library.import_zip(many)


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "empty", "text", "half"])
def test_what_is_no_zip(library, shared, tmp_path, kind):
    path = tmp_path / "x.zip"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "missing":
        raw = shared.read_bytes()
        path.write_bytes({"empty": b"", "text": b"no zip" * 100, "half": raw[: len(raw) // 2]}[kind])
    said = {"missing": "No such file", "folder": "is a folder", "pipe": "is a pipe or a device"}
    with pytest.raises((ValueError, OSError), match=said.get(kind, "is no zip, or only a part of one")):
        library.import_zip(path)
    assert not library.folder.exists()


def test_a_zip_that_changes_between_two_looks_is_not_kept(library, shared, tmp_path, monkeypatch):
    path = tmp_path / "mara.zip"
    path.write_bytes(shared.read_bytes())
    contents = read(shared)
    replace_hash(contents)
    free = library._check_free

    def exchanged(*arguments: Any, **named: Any) -> None:
        free(*arguments, **named)
        write(path, contents)

    monkeypatch.setattr(library, "_check_free", exchanged)
    with pytest.raises(ValueError, match="is not what character.json says"):
        library.import_zip(path)
    assert list(library) == []
    assert os.listdir(library.folder) == [".cast"]
    assert os.listdir(library.folder / ".cast") == [".lock"]
