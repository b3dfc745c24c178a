"""`character.json`: written, read again, and refused where it cannot be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from anystory.cast.schema import CastPhoto, CastVariant, CharacterFile, KeptFile, as_text, parse_character

HASH = "0123456789abcdef" * 4


def photo(name: str = "fox", **more: Any) -> CastPhoto:
    return CastPhoto(
        cutout=KeptFile(file=f"cutouts/{name}.png", sha256=HASH),
        photo=KeptFile(file=f"photos/{name}.jpg", sha256=HASH),
        **more,
    )


def character(**changes: Any) -> CharacterFile:
    winter = CastVariant(
        name="winter", photos=(photo("coat", found_by="auto", confidence=0.25),), description="in a coat"
    )
    whole: dict[str, Any] = {
        "name": "Mara",
        "photos": (photo(), CastPhoto(cutout=KeptFile(file="cutouts/side.png", sha256=HASH))),
        "aliases": ("Mimi", "まら"),
        "description": "a striped blue fox",
        "colour": "#0a0b0c",
        "notes": "one\ntwo",
        "licence": "CC0-1.0",
        "variants": (winter,),
    }
    return CharacterFile(**whole | changes)


def test_what_is_written_is_read():
    text = as_text(character())
    assert json.loads(text)["format"] == "anystory-character/1"
    assert "まら" in text, "for people to read"
    assert parse_character(text, "x") == character()


def test_texts_are_cleaned():
    found = character(name=" Zoe\u0308 ", description="  a fox\t", colour=" #ABCDEF")
    assert (found.name, found.description, found.colour) == ("Zoë", "a fox", "#abcdef")


def test_every_file_by_its_path():
    assert sorted(character().files) == [
        "cutouts/coat.png", "cutouts/fox.png", "cutouts/side.png", "photos/coat.jpg", "photos/fox.jpg"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "a@b"}, "name 'a@b' must not hold @"),
        ({"aliases": ("mimi", "MIMI")}, "alias 'MIMI' is the same name as 'mimi'"),
        ({"aliases": ("mara",)}, "alias 'mara' is the same name as 'Mara'"),
        ({"aliases": tuple(f"a{number}" for number in range(51))}, "aliases must be at most 50, got 51"),
        ({"photos": (photo(),) * 51}, "photos must be at most 50, got 51"),
        ({"colour": "red"}, "colour must be #rrggbb, such as #e4572e, got 'red'"),
        ({"colour": "#12345g"}, "colour must be #rrggbb"),
        ({"description": "a\nb"}, "description .* invisible character"),
        ({"description": "a" * 501}, "description must have at most 500 characters"),
        ({"notes": "a" * 10_001}, "notes must have at most 10,000 characters"),
        ({"licence": "a" * 201}, "licence must have at most 200"),
    ],
)
def test_what_cannot_be(changes, said):
    with pytest.raises(ValueError, match=said):
        character(**changes)


def test_two_variants_of_one_name():
    looks = tuple(CastVariant(name=name, photos=(photo(),)) for name in ("winter", "Winter"))
    with pytest.raises(ValueError, match="variant 'Winter' is the same name as 'winter'"):
        character(variants=looks)


@pytest.mark.parametrize(
    "file",
    [
        "fox.png",
        "photos/../../x",
        "/photos/a",
        "photos//a",
        "other/a.png",
        "photos/.a",
        "photos/a\nb",
        "photos/a\u202eb",
        "cutouts/",
    ],
)
def test_paths_that_lead_elsewhere(file):
    with pytest.raises(ValueError, match="file must lie in photos/, masks/ or cutouts/"):
        KeptFile(file=file, sha256=HASH)


def test_a_hash_is_one():
    with pytest.raises(ValueError, match="sha256 must be 64 hexadecimal digits"):
        KeptFile(file="photos/a", sha256="ABC")


def changed(**entries: Any) -> str:
    return json.dumps(json.loads(as_text(character())) | entries)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "x is no valid JSON"),
        ("[]", "x must hold a JSON object, got list"),
        ("{}", "x must be a character of the format 'anystory-character/1', got None: update anystory"),
        ("[" * 100_000, "x is n"),
        (changed(format="anystory-character/2"), "got 'anystory-character/2': update anystory"),
        (changed(format=1), "got 1"),
        (changed(name=None), r"x is damaged \(name: Input should be a valid string\)"),
        (changed(name="a/b"), "x is damaged .*name 'a/b' must not hold /"),
        (changed(photos=[]), "photos: Tuple should have at least 1 item"),
        (changed(photos={}), "photos: Input should be a valid"),
        (changed(photos=[{}]), r"photos.0.cutout: Field required"),
        (changed(photos=[{"cutout": {"file": "../../.ssh/id", "sha256": HASH}}]), "file must lie in photos/"),
        (
            changed(photos=[{"cutout": {"file": "cutouts/a", "sha256": HASH}, "confidence": 2}]),
            "less than or equal to 1",
        ),
        (changed(photos=[{"cutout": {"file": "cutouts/a", "sha256": HASH}, "found_by": "\x1b[2J"}]), r"U\+001B"),
        (changed(variants=[{"name": "w", "photos": []}]), "variants.0.photos: Tuple should have at least 1 item"),
        (changed(surprise=1), "surprise: Unexpected keyword argument"),
        (changed(aliases="Mimi"), "aliases: Input should be a valid"),
    ],
)
def test_damage_is_named(text, said):
    with pytest.raises(ValueError, match=said):
        parse_character(text, "x")
