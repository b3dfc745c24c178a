"""A library: what is added is found by any name, drawn from as the photo itself, changed and removed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import anystory
from anystory.cast import Character, Library, UnknownNameError, keeping
from anystory.cast import library as module
from anystory.cast.schema import COLOURS
from anystory.files import only_writer, sha256_file
from anystory.subjects import PreparedSubject, Subject


def same(one: PreparedSubject, other: PreparedSubject) -> bool:
    return np.array_equal(np.asarray(one.image), np.asarray(other.image)) and np.array_equal(one.mask, other.mask)


def files(folder: Path) -> set[str]:
    """All files below a folder but those of its workshop."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {file for file in found if not file.startswith(".cast/")}


def names_of(library: Library) -> list[str]:
    return [character.name for character in library]


# --- adding and finding ---


def test_the_public_name_is_the_library():
    assert anystory.Library is Library


def test_an_added_character_is_found_by_its_names_in_any_spelling(library, photos):
    added = library.add("Zoë", [photos / "red.png"], aliases=["Mimi Fox"], description="a red disc", licence="CC0-1.0")
    for name in ("Zoë", "ZOE\u0308", "mimi fox", "Mimi  Fox"):
        assert library[name] == added
        assert name in library
    assert added.folder == library.folder / "zoë"
    assert added.names == ("Zoë", "Mimi Fox")
    assert library.find("@zoë") == (added, None)
    assert "Tom" not in library
    assert 3 not in library
    assert [len(library), names_of(library)] == [1, ["Zoë"]]


def test_the_photo_is_kept_as_it_was_given_and_the_original_stays(library, photos):
    before = sha256_file(photos / "blue.png")
    (kept,) = library.add("Blue", [photos / "blue.png"], [photos / "blue-mask.png"]).photos
    assert (kept.photo.sha256, kept.found_by, kept.confidence) == (before, "mask", 1.0)
    assert sha256_file(photos / "blue.png") == before
    folder = library["blue"].folder
    for file in kept.files:
        assert sha256_file(folder / file.file) == file.sha256
    assert kept.photo.file == f"photos/blue-{before[:16]}.png"
    assert len(files(folder)) == 4


@pytest.mark.parametrize(
    ("image", "mask", "segmenter", "found_by"),
    [
        ("red.png", None, "auto", "alpha"),
        ("blue.png", "blue-mask.png", "auto", "mask"),  # a rectangle: all of the cut-out is opaque
        ("plain.png", None, "auto", "border"),
        ("plain.png", None, "none", "none"),  # all of the photo is the subject
    ],
)
def test_a_character_is_drawn_from_as_its_photo_would_be(library, photos, image, mask, segmenter, found_by):
    given = Subject(photos / image, mask and photos / mask, segmenter=segmenter)
    character = library.add("Mara", [given.image], [given.mask], segmenter=segmenter)
    assert character.photos[0].found_by == found_by
    for size in (32, 75):
        assert same(character.subject().prepare(size), given.prepare(size))


def test_several_photos_are_one_subject(library, photos):
    character = library.add("Mara", [photos / "red.png", photos / "blue.png"], [None, photos / "blue-mask.png"])
    subject = character.subject(scale=0.5, region=(0, 0, 1, 1))
    assert (subject.name, subject.scale, len(subject.photos)) == ("Mara", 0.5, 2)
    assert [photo.image for photo in subject.photos] == list(character.cutouts())
    assert [path.name.partition("-")[0] for path in character.originals()] == ["red", "blue"]


def test_pictures_from_memory_are_photos_too(library, photos):
    image, mask = Image.open(photos / "blue.png"), np.asarray(Image.open(photos / "blue-mask.png"))
    character = library.add("Mara", [image, np.asarray(Image.open(photos / "red.png"))], [mask, None])
    assert same(character.subject().photos[0].prepare(40), Subject(image, mask).prepare(40))
    assert np.array_equal(np.asarray(Image.open(character.originals()[0])), np.asarray(image))


def test_a_photo_that_is_turned_by_its_exif_is_cut_upright(library, photos, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(photos / "plain.png").save(tmp_path / "turned.jpg", exif=exif, quality=95)
    character = library.add("Mara", [tmp_path / "turned.jpg"])
    assert same(character.subject().prepare(48), Subject(tmp_path / "turned.jpg").prepare(48))
    assert character.originals()[0].read_bytes() == (tmp_path / "turned.jpg").read_bytes()


def test_what_is_cut_away_is_not_in_the_cut_out(library, photos):
    character = library.add("Mara", [photos / "blue.png"], [photos / "blue-mask.png"])
    cut = np.asarray(Image.open(character.cutouts()[0]))
    assert cut.shape == (26, 26, 4)
    assert (cut[1:-1, 1:-1] == (40, 40, 200, 255)).all()
    assert (cut[[0, -1]] == 0).all()
    assert (cut[:, [0, -1]] == 0).all()


def test_characters_get_colours_that_differ(library, photos):
    colours = [library.add(f"no {number}", [photos / "red.png"]).colour for number in range(3)]
    assert colours == list(COLOURS[:3])
    library.remove("no 1")
    assert library.add("Tom", [photos / "red.png"]).colour == COLOURS[1]
    assert library.add("Ann", [photos / "red.png"], colour="#010203").colour == "#010203"


def test_an_uncertain_cut_out_is_warned_of(library, tmp_path):
    blotches = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    pixels = np.asarray(Image.fromarray(blotches).resize((160, 120), Image.Resampling.BICUBIC)).astype(int)
    y, x = np.mgrid[:120, :160]
    pixels[(x - 80) ** 2 + (y - 60) ** 2 < 900] += (90, 0, 0)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / "hard.png")
    with pytest.warns(UserWarning, match="hard.png': the cut-out is uncertain .by grabcut, confidence 0"):
        character = library.add("Mara", [tmp_path / "hard.png"])
    assert character.photos[0].confidence < 0.5


def test_a_segmenters_folder_is_not_told_to_others(library, photos, tmp_path):
    from onnx_files import write_onnx

    write_onnx(tmp_path / "secret" / "u2netp.onnx")
    character = library.add("Mara", [photos / "plain.png"], segmenter=str(tmp_path / "secret" / "u2netp.onnx"))
    assert character.photos[0].found_by == "u2netp.onnx"


@pytest.mark.parametrize(
    ("image", "mask", "error", "said"),
    [
        ("gone.png", None, FileNotFoundError, "gone.png': no such file"),
        ("text.png", None, ValueError, "text.png' is not a picture"),
        ("empty.png", None, ValueError, "empty.png' is empty: all of it is transparent"),
        ("blue.png", "small-mask.png", ValueError, "both must have the same size"),
        ("blue.png", "gone.png", FileNotFoundError, "gone.png': no such file"),
        (".", None, ValueError, "is a folder: give the picture's file"),
    ],
)
def test_a_bad_picture_is_refused_as_a_subject_refuses_it(library, photos, image, mask, error, said):
    given = (photos / image, mask and photos / mask)
    with pytest.raises(error, match=said) as ours:
        library.add("Mara", [photos / "red.png", given[0]], [None, given[1]])
    with pytest.raises(error) as theirs:
        Subject(*given).read()
    assert str(ours.value) == str(theirs.value)
    assert not library.folder.exists()


def test_a_photo_that_changes_while_it_is_read_is_refused(library, photos, monkeypatch):
    other = (photos / "green.png").read_bytes()
    monkeypatch.setattr(keeping, "read_bytes", lambda *arguments: other)
    with pytest.raises(ValueError, match="red.png' was changed while it was read: try again"):
        library.add("Mara", [photos / "red.png"])
    assert not library.folder.exists()


@pytest.mark.parametrize(("photos_of", "masks"), [([], None), (["red.png"], []), (["red.png"], [None, None])])
def test_as_many_masks_as_photos_and_at_least_one(library, photos, photos_of, masks):
    with pytest.raises(ValueError, match="`image` must be|`mask` must be"):
        library.add("Mara", [photos / name for name in photos_of], masks)
    assert not library.folder.exists()


@pytest.mark.parametrize("name", ["Mara", "MARA", "mimi", "Ｍａｒａ"])
def test_a_name_is_one_characters_only(library, photos, name):
    library.add("Mara", [photos / "red.png"], aliases=["Mimi"])
    library.add("Tom", [photos / "red.png"])
    for attempt in (
        lambda: library.add(name, [photos / "red.png"]),
        lambda: library.add("Ann", [photos / "red.png"], aliases=[name]),
        lambda: library.edit("Tom", new_name=name),
        lambda: library.edit("Tom", add_aliases=[name]),
    ):
        with pytest.raises(ValueError, match=r"is taken in .*: it is (the name|an alias) of 'Mara'; choose another"):
            attempt()
    assert names_of(library) == ["Mara", "Tom"]
    assert library["tom"].names == ("Tom",)


def test_characters_whose_folders_would_be_the_same(library, photos):
    folders = [library.add(name, [photos / "red.png"]).folder.name for name in ("a!", "a?", "A.")]
    assert folders == ["a", "a-2", "a-3"]


def test_unknown_names_give_the_nearest(library, photos):
    with pytest.raises(UnknownNameError, match=r"no character 'Mara' in .*: it is empty .`anystory cast add`"):
        library["Mara"]
    library.add("Mara", [photos / "red.png"], aliases=["Schneewittchen"])
    library.add("Tom", [photos / "red.png"])
    for name, hint in (("mra", "the nearest is 'Mara'"), ("Schneewitchen", "the nearest is 'Schneewittchen'")):
        with pytest.raises(KeyError, match=hint):
            library[name]
    with pytest.raises(ValueError, match="it has 'Mara', 'Schneewittchen', 'Tom'$"):
        library["zzz"]


# --- variants ---


def test_a_variant_is_the_same_person_in_other_clothes(library, photos):
    library.add("Mara", [photos / "red.png"], description="a fox")
    library.add_variant("mara", "Winter", [photos / "green.png"], description="a fox in a coat")
    character = library.add_variant("mara", "ball", [photos / "blue.png"], [photos / "blue-mask.png"])
    assert [look.name for look in character.variants] == ["Winter", "ball"]
    assert library.find("@MARA@winter") == (character, "Winter")
    assert [character.description_of(look) for look in (None, "winter", "ball")] == [
        "a fox",
        "a fox in a coat",
        "a fox",
    ]
    assert same(character.subject("WINTER").prepare(32), Subject(photos / "green.png").prepare(32))
    assert character.subject("winter").name == "Mara"
    for name, hint in (("wintr", "it has 'Winter'"), ("zzz", "it has 'Winter', 'ball'")):
        with pytest.raises(UnknownNameError, match=f"Mara has no variant '{name}': {hint}"):
            character.subject(name)
    library.add("Tom", [photos / "red.png"])
    with pytest.raises(UnknownNameError, match="Tom has no variant 'winter': it has none"):
        library.find("tom@winter")


def test_variants_that_cannot_be(library, photos):
    with pytest.raises(UnknownNameError, match="no character 'Mara'"):
        library.add_variant("Mara", "winter", [photos / "red.png"])
    library.add("Mara", [photos / "red.png"])
    library.add_variant("Mara", "winter", [photos / "green.png"])
    before = files(library.folder)
    with pytest.raises(ValueError, match="Mara has a variant 'WINTER' already"):
        library.add_variant("Mara", "WINTER", [photos / "red.png"])
    with pytest.raises(ValueError, match="variant 'a@b' must not hold @"):
        library.add_variant("Mara", "a@b", [photos / "red.png"])
    with pytest.raises(ValueError, match="text.png' is not a picture"):
        library.add_variant("Mara", "summer", [photos / "red.png", photos / "text.png"])
    assert files(library.folder) == before


# --- changing ---


def test_every_entry_can_be_changed_and_emptied(library, photos):
    library.add("Mara", [photos / "red.png"], aliases=["Mimi"], description="a fox")
    library.add("Tom", [photos / "red.png"])
    changed = library.edit(
        "mimi",
        new_name="Anna",
        add_aliases=["Nana"],
        drop_aliases=["MIMI"],
        description="a cat",
        colour="#ABCDEF",
        notes="one\ntwo",
        licence="MIT",
    )
    assert library["anna"] == changed
    assert (changed.names, changed.description, changed.colour) == (("Anna", "Nana"), "a cat", "#abcdef")
    assert (changed.notes, changed.licence, changed.folder.name) == ("one\ntwo", "MIT", "mara")
    emptied = library.edit("anna", description="", notes="", licence="", drop_aliases=["nana"])
    assert (emptied.description, emptied.notes, emptied.licence, emptied.aliases) == ("", "", "", ())
    assert library.edit("anna", new_name="ANNA").name == "ANNA", "its own name is free for it"
    assert library.add("Mara", [photos / "red.png"]).folder.name == "mara-2"


def test_photos_come_and_go_with_their_files(library, photos):
    library.add("Mara", [photos / "red.png"])
    library.edit("Mara", add_photos=[photos / "blue.png"], masks=[photos / "blue-mask.png"])
    assert [path.name.partition("-")[0] for path in library["mara"].originals()] == ["red", "blue"]
    changed = library.edit("Mara", add_photos=[photos / "green.png"], drop_photos=[1, 2])
    assert [path.name.partition("-")[0] for path in changed.originals()] == ["green"]
    assert len(files(changed.folder)) == 3, "files that nothing names are gone"
    assert files(changed.folder) == {"character.json", *changed.files}


def test_a_file_that_two_looks_share_stays_while_one_has_it(library, photos):
    library.add("Mara", [photos / "red.png"])
    library.add_variant("Mara", "winter", [photos / "red.png"])
    library.edit("Mara", add_photos=[photos / "green.png"], drop_photos=[1])
    character = library["mara"]
    assert same(character.subject("winter").prepare(32), Subject(photos / "red.png").prepare(32))


def test_a_variants_entries(library, photos):
    library.add("Mara", [photos / "red.png"])
    library.add_variant("Mara", "winter", [photos / "green.png"])
    changed = library.edit(
        "Mara", "WINTER", new_name="Snow", description="white", add_photos=[photos / "red.png"], drop_photos=[1]
    )
    assert [(look.name, look.description, len(look.photos)) for look in changed.variants] == [("Snow", "white", 1)]
    assert (changed.name, changed.description) == ("Mara", "")
    assert same(changed.subject("snow").prepare(32), Subject(photos / "red.png").prepare(32))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"drop_photos": [1]}, "Mara needs at least one photo of each look"),
        ({"drop_photos": [2]}, "there is no photo 2: they are counted from 1 to 1"),
        ({"drop_photos": [0]}, "there is no photo 0"),
        ({"drop_aliases": ["Mim"]}, "Mara has no alias 'Mim': it has 'Mimi'"),
        ({"add_aliases": ["mara"]}, "alias 'mara' is the same name as 'Mara'"),
        ({"new_name": "a/b"}, "name 'a/b' must not hold /"),
        ({"new_name": ""}, "name must not be empty"),
        ({"colour": "red"}, "colour must be #rrggbb"),
        ({"description": "a\x00b"}, r"description .* invisible character U\+0000"),
        ({"variant": "winter", "colour": "#010203"}, "a variant has no colour of its own"),
        ({"variant": "winter", "notes": "x", "add_aliases": ["y"]}, "a variant has no notes and no aliases of its own"),
        ({"variant": "winter", "drop_photos": [1]}, "Mara needs at least one photo of each look"),
        ({"variant": "summer"}, "Mara has no variant 'summer': it has 'winter'"),
        ({"variant": "winter", "new_name": "BALL"}, "variant 'ball' is the same name as 'BALL'"),
    ],
)
def test_changes_that_cannot_be_change_nothing(library, photos, change, said):
    library.add("Mara", [photos / "red.png"], aliases=["Mimi"])
    for look in ("winter", "ball"):
        library.add_variant("Mara", look, [photos / "green.png"])
    before = library["mara"]
    with pytest.raises(ValueError, match=said):
        library.edit("Mara", **change)
    assert library["mara"] == before
    assert files(before.folder) == {"character.json", *before.files}


def test_what_a_character_takes_is_bounded(library, photos, monkeypatch):
    library.add("Mara", [photos / "red.png"])
    monkeypatch.setattr(keeping, "MOST_BYTES", 2500)
    with pytest.raises(ValueError, match="the files of Mara would take .* MiB, more than"):
        library.edit("Mara", add_photos=[photos / "blue.png"], masks=[photos / "blue-mask.png"])
    with pytest.raises(ValueError, match="the files of Tom would take"):
        library.add("Tom", [photos / "blue.png"], [photos / "blue-mask.png"])
    assert names_of(library) == ["Mara"]
    assert files(library["mara"].folder) == {"character.json", *library["mara"].files}


# --- removing ---


def test_what_is_removed_is_gone_and_nothing_else(library, photos, tmp_path):
    library.add("Mara", [photos / "red.png"])
    library.add_variant("Mara", "winter", [photos / "green.png"])
    library.add("Tom", [photos / "red.png"])
    (library.folder / "mine.txt").write_text("mine")
    tom = files(library["tom"].folder)
    assert library.remove("mara", "WINTER") is None
    assert library["mara"].variants == ()
    assert files(library["mara"].folder) == {"character.json", *library["mara"].files}
    library.remove("MARA")
    assert sorted(path.name for path in library.folder.iterdir()) == [".cast", "mine.txt", "tom"]
    assert files(library["tom"].folder) == tom
    assert os.listdir(library.folder / ".cast") == [".lock"]
    assert (photos / "red.png").is_file()


def test_what_cannot_be_removed(library, photos):
    with pytest.raises(UnknownNameError):
        library.remove("Mara")
    character = library.add("Mara", [photos / "red.png"])
    with pytest.raises(UnknownNameError, match="no variant 'winter'"):
        library.remove("Mara", "winter")
    for mine in (
        character.folder / "notes.txt",
        character.folder / "photos" / "new.png",
        character.folder / "deep" / "x",
    ):
        mine.parent.mkdir(exist_ok=True)
        mine.write_text("mine")
        with pytest.raises(ValueError, match=r"Mara stays: the library did not write .*; move it away first"):
            library.remove("Mara")
        assert mine.read_text() == "mine"
        assert library["Mara"] == character
        mine.unlink()
    shutil.rmtree(character.folder / "deep")
    library.remove("Mara")


def test_a_character_that_lies_elsewhere_stays_there(library, photos, tmp_path):
    character = library.add("Mara", [photos / "red.png"])
    character.folder.rename(tmp_path / "elsewhere")
    character.folder.symlink_to(tmp_path / "elsewhere")
    assert library.edit("mara", description="a fox").description == "a fox"
    library.remove("Mara")
    assert not os.path.lexists(character.folder)
    assert (tmp_path / "elsewhere" / "character.json").is_file()


# --- the folder ---


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"ANYSTORY_CAST": "/a/b", "XDG_DATA_HOME": "/d"}, "/a/b"),
        ({"ANYSTORY_CAST": "~/b", "XDG_DATA_HOME": "/d"}, "/home/me/b"),
        ({"ANYSTORY_CAST": "", "XDG_DATA_HOME": "/d"}, "/d/anystory/cast"),
        ({"XDG_DATA_HOME": "relative"}, "/home/me/.local/share/anystory/cast"),
        ({"XDG_DATA_HOME": ""}, "/home/me/.local/share/anystory/cast"),
        ({}, "/home/me/.local/share/anystory/cast"),
    ],
)
def test_where_a_library_lies(monkeypatch, environment, expected):
    for name in ("ANYSTORY_CAST", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/home/me"} | environment).items():
        monkeypatch.setenv(name, value)
    assert Library().folder == Path(expected)
    assert Library("~/mine").folder == Path("/home/me/mine")
    assert repr(Library("/x")) == "Library('/x')"


def test_a_library_that_is_not_there_is_empty_and_stays_away(library):
    assert (list(library), len(library), "Mara" in library) == ([], 0, False)
    assert not library.folder.exists()


@pytest.mark.parametrize("inside", ["", "deeper"])
def test_a_library_that_is_a_file(tmp_path, photos, inside):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
        Library(tmp_path / "file" / inside).add("Mara", [photos / "red.png"])
    assert (tmp_path / "file").read_text() == "mine"


def test_other_folders_are_no_characters(library, photos):
    library.add("Mara", [photos / "red.png"])
    (library.folder / "holiday").mkdir()
    (library.folder / ".hidden").mkdir()
    (library.folder / ".hidden" / "character.json").write_text("{}")
    assert library.read().damaged == ()
    assert names_of(library) == ["Mara"]


@pytest.mark.parametrize("damage", ["empty", "no UTF-8", "no cut-out", "pipe", "another version"])
def test_a_damaged_character_does_not_hide_the_others(library, photos, damage):
    library.add("Mara", [photos / "red.png"])
    tom = library.add("Tom", [photos / "red.png"])
    file = tom.folder / "character.json"
    if damage == "no cut-out":
        tom.cutouts()[0].unlink()
    elif damage == "pipe":
        file.unlink()
        os.mkfifo(file)
    else:
        file.write_bytes({"empty": b"", "no UTF-8": b"\xff\xfe", "another version": b'{"format": "x"}'}[damage])
    shelf = library.read()
    assert [one.name for one in shelf.characters] == ["Mara"]
    assert len(shelf.damaged) == 1
    assert str(tom.folder) in shelf.damaged[0]
    with pytest.raises(UnknownNameError, match="no character 'Tom' .*tom"):
        library["Tom"]
    assert library.add("Tom", [photos / "green.png"]).folder.name == "tom-2"


def test_a_program_that_writes_for_long_is_waited_for_and_then_named(library, photos, monkeypatch):
    library.add("Mara", [photos / "red.png"])
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    with (
        only_writer(library.folder / ".cast"),
        pytest.raises(ValueError, match="another program is writing into"),
    ):
        library.add("Tom", [photos / "red.png"])
    assert isinstance(library.add("Tom", [photos / "red.png"]), Character)
