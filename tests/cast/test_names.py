"""Names in any script: which can be, which are the same, which are near, and the folders that they give."""

from __future__ import annotations

import unicodedata

import pytest

from anystory.cast import UnknownNameError
from anystory.cast.names import check_line, check_name, folder_name, name_key, nearest, split_reference


@pytest.mark.parametrize(
    "name", ["Mara", "Jean-Luc", "O'Neill", "Zoë", "まら", "मीरा", "ليلى", "Ἀθηνᾶ", "7 of 9", "R2-D2"]
)
def test_names_of_any_script_are_kept(name):
    assert check_name(f"  {name} ") == unicodedata.normalize("NFC", name)
    assert check_name(unicodedata.normalize("NFD", name)) == check_name(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "must not be empty"),
        ("   ", "must not be empty"),
        ("a@b", "must not hold @"),
        ("a＠b", "must not hold @"),  # full width: the same sign once names are compared
        ("a/b", "must not hold /"),
        ("a\\b", r"must not hold \\"),
        ("a:b", "must not hold :"),
        ("a+b=c", r"must not hold \+ ="),
        ("{mara}", r"must not hold { }"),
        ("a\nb", r"invisible character U\+000A"),
        ("a\x00b", r"invisible character U\+0000"),
        ("a\x1b[31m", r"invisible character U\+001B"),
        ("a\u202eb", r"invisible character U\+202E"),  # turns what follows around
        ("a\u200bb", r"invisible character U\+200B"),
        ("a\udcffb", r"invisible character U\+DCFF"),
        ("a\u2028b", r"invisible character U\+2028"),
        ("42", "must not be a number"),
        ("٤٢", "must not be a number"),
        ("--", "must hold a letter"),
        ("x" * 81, "at most 80 characters, got 81"),
    ],
)
def test_what_can_be_no_name(name, said):
    with pytest.raises(ValueError, match=said):
        check_name(name)


def test_joiners_belong_to_some_scripts():
    assert check_name("نمی\u200cدانم") == "نمی\u200cدانم"


def test_lines_only_where_they_may_be():
    assert check_line("one\ntwo\t3", "notes", 20, lines=True) == "one\ntwo\t3"
    with pytest.raises(ValueError, match="notes .* must not hold the invisible character U\\+000A"):
        check_line("one\ntwo", "notes", 20)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Mara", "mARA"),
        ("Zoë", "ZOE\u0308"),
        ("Straße", "STRASSE"),
        ("Ｍａｒａ", "mara"),
        ("Mara  Fox", "mara\u00a0fox"),
        ("Ὀδυσσεύς", "ὈΔΥΣΣΕΎΣ"),
    ],
)
def test_the_same_name_in_other_letters(one, other):
    assert name_key(one) == name_key(other)


def test_other_names_are_others():
    assert len({name_key(name) for name in ("Ann", "Anna", "Zoe", "Zoë", "まら", "マラ")}) == 6


def test_the_nearest_names():
    assert nearest("MRA", ["Mara", "Tom", "Maria", "Zoë"]) == ["Mara", "Maria"]
    assert nearest("xyz", ["Mara"]) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [("mara", ("mara", None)), ("@mara", ("mara", None)), ("@Mara Fox@winter coat", ("Mara Fox", "winter coat"))],
)
def test_references(text, expected):
    assert split_reference(text) == expected


@pytest.mark.parametrize("text", ["", "@", "@@winter", "@mara@", "@mara@winter@2", " @ "])
def test_references_to_nobody(text):
    with pytest.raises(UnknownNameError, match="names no character: write @NAME or @NAME@VARIANT"):
        split_reference(text)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("Mara Fox", "mara-fox"),
        ("José", "josé"),
        ("まら", "まら"),
        ("मीरा", "मीरा"),
        ("..", "character"),
        ("R2-D2!", "r2-d2"),
        ("CON", "con-1"),
        ("ü" * 200, "ü" * 40),
    ],
)
def test_folders(name, folder):
    assert folder_name(name) == folder


def test_a_folder_that_is_taken_gets_a_number():
    assert folder_name("Mara", ["MARA", "mara-2", "tom"]) == "mara-3"
