"""`--subject`, `--region`, `--scale`: names, photos, masks, and what must not be taken for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from anystory.cli.flags.photos import split_mask, split_photos
from anystory.cli.flags.subject import parse_subjects, split_name


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with some files."""
    monkeypatch.chdir(tmp_path)
    for name in ("fox.png", "side.png", "mask.png", "a=b.png", "a+b.png", "1=2.png", "sub=1/fox.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def photos(*texts: str) -> list[tuple[str | None, list[str]]]:
    return [
        (given.name, [":".join(str(file) for file in photo if file) for photo in given.photos])
        for given in parse_subjects(texts, [])
    ]


def test_a_name_before_an_equals_sign():
    assert photos("mara=fox.png") == [("mara", ["fox.png"])]
    assert photos(" Mara Fox =fox.png:mask.png+side.png") == [("Mara Fox", ["fox.png:mask.png", "side.png"])]


def test_several_photos_of_one_name_are_one_subject():
    given = photos("mara=fox.png", "side.png", "mara=side.png:mask.png", "mara=fox.png+side.png")
    assert given == [("mara", ["fox.png", "side.png:mask.png", "fox.png", "side.png"]), ("side", ["side.png"])]


@pytest.mark.parametrize(
    ("text", "name", "path"),
    [
        ("a=b.png", "a=b", "a=b.png"),
        ("./a=b.png", "a=b", "a=b.png"),
        ("sub=1/fox.png", "fox", "sub=1/fox.png"),
        ("mara=a=b.png", "mara", "a=b.png"),
        ("mara=sub=1/fox.png", "mara", "sub=1/fox.png"),
        ("a+b.png", "a+b", "a+b.png"),
        ("1=2.png", "1=2", "1=2.png"),
    ],
)
def test_an_equals_sign_or_a_plus_inside_a_path_is_none_between(text, name, path):
    assert photos(text) == [(name, [path])]


def test_paths_with_equals_signs_and_masks_and_more_photos():
    assert photos("a=b.png:mask.png+sub=1/fox.png") == [("a=b", ["a=b.png:mask.png", "sub=1/fox.png"])]


def test_what_may_be_a_file_or_a_name_is_refused(here):
    (here / "b.png").touch()
    with pytest.raises(ValueError, match=r"--subject a=b.png: this may be the file .* write ./a=b.png or a=./b.png"):
        parse_subjects(["a=b.png"], [])
    assert photos("./a=b.png", "a=./b.png") == [("a=b", ["a=b.png"]), ("a", ["b.png"])]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("=fox.png", ValueError, "no subject's name before the ="),
        ("  =fox.png", ValueError, "no subject's name before the ="),
        ("2=fox.png", ValueError, "a name must not be a number"),
        ("mara=", FileNotFoundError, "no such file .for the subject 'mara'"),
        ("mara=gone.png", FileNotFoundError, "gone.png: no such file .for the subject 'mara'"),
        ("mara=fox.png:gone.png", FileNotFoundError, "there is no mask 'gone.png' .for the subject 'mara'"),
        ("mara=fox.png+gone.png", FileNotFoundError, "--subject gone.png: no such file"),
        ("x/mara=fox.png", FileNotFoundError, "--subject x/mara=fox.png: no such file"),
        ("fox.png+mara=side.png", FileNotFoundError, "--subject mara=side.png: no such file"),
        ("\0", FileNotFoundError, "no such file"),
        ("x" * 5000, FileNotFoundError, "no such file"),
    ],
)
def test_refusals(text, error, message):
    with pytest.raises(error, match=message):
        parse_subjects([text], [])


def test_settings_by_number_and_by_name():
    first, second = parse_subjects(
        ["fox.png", "mara=side.png"],
        ["mara:0,0,0.5,1", "1:0.5,0,1,1"],
        ["fox:0.5", "2:0.25"],
        ["mara:2"],
    )
    assert first.settings == {"region": (0.5, 0, 1, 1), "scale": 0.5}
    assert second.settings == {"region": (0, 0, 0.5, 1), "scale": 0.25, "reference_scale": 2}


@pytest.mark.parametrize("scale", ["anna:1", "0:1", "3:1", "-1:1"])
def test_settings_of_nobody(scale):
    with pytest.raises(ValueError, match="there is no subject .*; they are named 'mara', 'side', or counted from 1 to"):
        parse_subjects(["mara=fox.png", "side.png"], [], [scale])


def test_a_setting_without_any_subject():
    with pytest.raises(ValueError, match="--scale 1:1: there is no subject 1$"):
        parse_subjects([], [], ["1:1"])


def test_a_setting_by_number_and_by_name_is_twice():
    with pytest.raises(ValueError, match="subject mara has a scale already"):
        parse_subjects(["mara=fox.png"], [], ["1:1", "mara:2"])


def test_colons_inside_names_are_no_separators(here):
    odd, mask = here / "C:fox.png", here / "m:1.png"
    odd.touch()
    mask.touch()
    assert split_mask(str(odd)) == (odd, None)
    assert split_mask(f"{odd}:{mask}") == (odd, mask)
    assert parse_subjects([str(odd)], [], ["C:fox:0.5"])[0].settings == {"scale": 0.5}


def test_a_windows_path_has_no_name():
    assert split_name("C:\\a=b.png") == (None, "C:\\a=b.png")


def test_equal_names_are_numbered(here):
    paths = [here / folder / "fox.png" for folder in "abc"]
    for path in paths:
        path.parent.mkdir()
        path.touch()
    names = [subject.name for subject in parse_subjects([*map(str, paths), "fox 2=side.png"], [])]
    assert names == ["fox", "fox 3", "fox 4", "fox 2"]


def test_many_photos_are_read_soon(here):
    (here / "p").mkdir()
    files = [here / "p" / f"{number}.png" for number in range(40)]
    for file in files:
        file.touch()
    assert [photo.image for photo in split_photos("+".join(map(str, files)))] == files
    with pytest.raises(FileNotFoundError, match="gone.png: no such file"):  # not after every way to cut the text
        split_photos("+".join([*(["fox.png"] * 40), "gone.png"]))
