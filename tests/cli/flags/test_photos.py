"""`@NAME` among photos: characters of a library, beside files of any name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anystory.cast import Character, Library
from anystory.cli.flags.photos import split_photos
from anystory.cli.flags.subject import parse_subjects
from cli.conftest import give_references


@pytest.fixture(autouse=True)
def mara(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Character:
    """Mara (two photos, alias Mimi Fox) with the variant winter, in the library that is used; `side.png` is a file."""
    monkeypatch.chdir(give_references(tmp_path))
    monkeypatch.setenv("ANYSTORY_CAST", "cast")
    Path("side.png").touch()
    library = Library()
    library.add("Mara", ["red.png", "blue.png"], [None, "blue-mask.png"], aliases=["Mimi Fox"])
    return library.add_variant("Mara", "winter", ["red.png"])


def names(*texts: str, **more: Any) -> list[tuple[str | None, int]]:
    return [(subject.name, len(subject.photos)) for subject in parse_subjects(texts, [], **more)]


def test_a_character_is_its_cut_outs_under_its_name(mara):
    (subject,) = parse_subjects(["@mara"], ["MARA:0,0,1,1"])
    assert tuple(photo.image for photo in subject.photos) == mara.cutouts()
    assert [photo.mask for photo in subject.photos] == [None, None]
    assert (subject.name, subject.settings) == ("Mara", {"region": (0, 0, 1, 1)})
    assert subject.subject().read().photos[1].name == "Mara"
    (winter,) = parse_subjects(["@MIMI FOX@Winter"], [])
    assert (winter.image, winter.name) == (mara.cutouts("winter")[0], "Mara")


def test_characters_and_files_together(mara):
    assert names("anna=@mara") == [("anna", 2)]
    assert names("@mara+side.png") == [("Mara", 3)]
    assert names("side.png+@mara+@mara@winter") == [("side", 4)]
    assert names("@mara", "@mara@winter", "side.png") == [("Mara", 2), ("Mara 2", 1), ("side", 1)]
    assert names("anna=@mara", "anna=side.png") == [("anna", 3)]
    assert split_photos("side.png+@mara")[1:] == [(cutout, None) for cutout in mara.cutouts()]


def test_a_file_may_have_such_a_name(mara):
    for name in ("@tom", "@a+b.png", "@mara"):
        Path(name).touch()
    assert names("@tom") == [("@tom", 1)]
    assert names("@a+b.png") == [("@a+b", 1)]
    assert names("@a+b.png+side.png") == [("@a+b", 2)]
    assert names("./@mara") == [("@mara", 1)]
    with pytest.raises(ValueError, match=r"@mara: this may be the file '@mara' as well as Mara from cast/mara"):
        parse_subjects(["@mara"], [])
    assert names("@mara", library=Path("other")) == [("@mara", 1)], "nobody else has the name"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("@mra", "there is no character 'mra' in cast: the nearest is 'Mara'"),
        ("@zzzz", "it has 'Mara', 'Mimi Fox'$"),
        ("@mara@wnter", "Mara has no variant 'wnter': it has 'winter'"),
        ("@", "'@' names no character"),
        ("@mara@winter@more", "names no character: write @NAME or @NAME@VARIANT"),
        ("anna=@mra", "there is no character 'mra'"),
        ("@mra+side.png", "there is no character 'mra'"),
        ("side.png+@mra", "there is no character 'mra'"),
        ("@mara+@mra+side.png", "there is no character 'mra'"),
        ("@mara:blue-mask.png", "there is no character 'mara:blue-mask.png'"),
        ("@mara+gone.png", "gone.png: no such file"),
    ],
)
def test_nobody_of_that_name(text, said):
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        parse_subjects([text], [])


def test_names_in_options_are_found_in_any_case_if_that_is_clear():
    Path("MARA.png").touch()
    Path("mara.png").touch()
    (first, second) = parse_subjects(["MARA.png", "mara.png"], [], ["mara:0.5", "MARA:0.25"])
    assert [first.settings, second.settings] == [{"scale": 0.25}, {"scale": 0.5}]
    with pytest.raises(ValueError, match="there is no subject Mara; they are named 'MARA', 'mara'"):
        parse_subjects(["MARA.png", "mara.png"], [], ["Mara:0.5"])
