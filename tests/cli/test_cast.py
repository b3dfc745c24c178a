"""`anystory cast`, and characters in the place of pictures."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from anystory.cast import Library
from anystory.cli import app
from cli.refusals import refused, tree

ROOT = Path(__file__).parents[2]


def run(*arguments: Any, code: int = 0) -> str:
    """Run `anystory cast …` and return all that it printed."""
    result = CliRunner().invoke(app, ["cast", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(autouse=True)
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """The library that is used where none is named."""
    monkeypatch.setenv("ANYSTORY_CAST", str(tmp_path / "cast"))
    return Library()


@pytest.fixture
def mara(library: Library, references: Path) -> Library:
    """Mara, alias Mimi, of `red.png`; her variant Winter of `blue.png`."""
    library.add("Mara", [references / "red.png"], aliases=["Mimi"], description="a red disc")
    library.add_variant("Mara", "Winter", [references / "blue.png"], [references / "blue-mask.png"])
    return library


# --- adding, listing, showing ---


def test_a_character_is_added_listed_and_shown(library, references):
    said = run(
        *("add", "Mara", references / "red.png", f"{references / 'blue.png'}:{references / 'blue-mask.png'}"),
        *("--description", "a red disc", "--alias", "Mimi", "--alias", "Mar", "--colour", "#010203"),
        *("--notes", "one\ntwo", "--licence", "MIT"),
    )
    assert said.startswith(f"added @Mara with 2 photos to {library.folder / 'mara'}\n")
    assert re.search(r"photo 1    photos/red-[0-9a-f]{16}.png, found by alpha, confidence 1.00", said)
    assert "found by mask" in said
    run("add", "mimi", references / "red.png", "--variant", "winter", "--description", "white")
    assert run("list") == "Mara, Mimi, Mar  (2 photos)  @winter\n    a red disc\n"
    shown = run("show", "mar")
    for line in ("also         Mimi, Mar", "colour       #010203", "licence      MIT", "@winter      white"):
        assert line in shown.splitlines()
    assert "notes        one\n             two\n" in shown
    assert shown.endswith("use          --subject @Mara\n")
    winter = run("show", "@MARA@WINTER")
    assert "description  white" in winter
    assert "Mimi" not in winter
    assert winter.count("photo 1 ") == 1


@pytest.mark.parametrize("form", ["colon", "option"])
def test_masks_behind_colons_or_as_options(library, references, form):
    image, mask = references / "blue.png", references / "blue-mask.png"
    run("add", "Mara", *([f"{image}:{mask}"] if form == "colon" else [image, "--mask", mask]))
    (photo,) = library["mara"].photos
    assert (photo.found_by, photo.mask is not None) == ("mask", True)


def test_a_segmenter_finds_who_is_meant(library, references):
    run("add", "Mara", references / "blue.png", "--segmenter", "none")
    assert library["mara"].photos[0].found_by == "none"


def test_a_character_of_the_world_is_drawn_from_words(library):
    said = run("add", "Blue", "--draw", "a striped blue fox with a red hat")
    assert "found by alpha" in said
    character = library["blue"]
    assert character.description == "a striped blue fox with a red hat"
    pixels = np.asarray(Image.open(character.cutouts()[0]))
    red, _, blue = pixels[pixels[..., 3] == 255][:, :3].astype(int).T
    assert (blue > red + 40).mean() > 0.2, "mostly blue"
    with pytest.warns(UserWarning, match="zeppelin"):
        run("add", "Blue", "--draw", "a blue fox with a zeppelin", "--variant", "flying", "--description", "high up")
    assert library["blue"].description_of("flying") == "high up"
    run("add", "Other", "--draw", "a striped blue fox with a red hat", "--seed", 5)
    assert library["other"].cutouts()[0].name != character.cutouts()[0].name


def test_json_is_all_there_is(mara, references):
    (mara.folder / "bad").mkdir()
    (mara.folder / "bad" / "character.json").write_text("{")
    listed = json.loads(CliRunner().invoke(app, ["cast", "list", "--json"]).stdout)
    assert listed["library"] == str(mara.folder)
    assert [character["name"] for character in listed["characters"]] == ["Mara"]
    assert len(listed["damaged"]) == 1
    shown = json.loads(run("show", "mimi", "--json"))
    assert shown == listed["characters"][0]
    assert shown["folder"] == str(mara.folder / "mara")
    assert shown["variants"][0]["photos"][0]["found_by"] == "mask"


def test_an_empty_library_and_a_damaged_character(library, references):
    assert f"no characters in {library.folder}: add one" in run("list")
    run("add", "Mara", references / "red.png")
    (library.folder / "mara" / "character.json").write_text("[]")
    result = CliRunner().invoke(app, ["cast", "list"])
    assert result.exit_code == 0
    assert result.stderr.startswith(f"warning: {library.folder / 'mara' / 'character.json'} must hold a JSON object")


def test_another_library_can_be_named(library, references, tmp_path):
    run("add", "Mara", references / "red.png", "--library", tmp_path / "other")
    assert "Mara" in run("list", "--library", tmp_path / "other")
    assert not library.folder.exists()


def test_a_card_and_a_sheet_are_pictures(mara, references, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("add", "Zoë", references / "red.png")
    assert run("show", "mara", "--card", "card.png").endswith("wrote card.png\n")
    assert "wrote cast.png with 2 characters" in run("sheet")
    assert "wrote cast-2.png with 1 character\n" in run("sheet", "mimi")
    assert run("sheet", "--out", "all.png").splitlines() == ["wrote all.png with 2 characters"]
    for name in ("card", "cast", "all"):
        colours = Image.open(f"{name}.png").convert("RGB").getcolors(1 << 20)
        assert colours is not None
        assert {(200, 40, 40)} <= {colour for _, colour in colours}
    assert Image.open("cast.png").width > Image.open("cast-2.png").width
    assert "exists already" in refused(tmp_path, "cast", "sheet", "--out", "all.png")
    assert "exists already" in refused(tmp_path, "cast", "show", "mara", "--card", "card.png")
    run("sheet", "--out", "all.png", "--overwrite")


def test_letters_that_no_font_has_are_named(library, references, tmp_path, monkeypatch):
    monkeypatch.setattr("anystory.page_layout._FONTS", ())
    run("add", "まら", references / "red.png")
    assert "no font here has letters for 'まら', which are boxes" in run("sheet", "--out", tmp_path / "all.png")


# --- changing, removing ---


def test_every_flag_of_edit_changes_its_entry(mara, references):
    said = run(
        *("edit", "mimi", "--name", "Anna", "--alias", "Nana", "--drop-alias", "mimi", "--description", "a cat"),
        *("--colour", "#0a0b0c", "--notes", "n", "--licence", "MIT"),
        *("--add-photo", references / "blue.png", "--mask", references / "blue-mask.png", "--drop-photo", 1),
    )
    assert said.startswith("@Anna\n")
    anna = mara["anna"]
    assert (anna.names, anna.description, anna.colour) == (("Anna", "Nana"), "a cat", "#0a0b0c")
    assert (anna.notes, anna.licence, [photo.found_by for photo in anna.photos]) == ("n", "MIT", ["mask"])
    said = run("edit", "anna@winter", "--name", "Snow", "--description", "white", "--add-photo", references / "red.png")
    assert said.startswith("@Anna@Snow\ndescription  white\n")
    assert [len(look.photos) for look in mara["anna"].variants] == [2]
    run("edit", "anna", "--notes", "", "--licence", "")
    assert (mara["anna"].notes, mara["anna"].licence) == ("", "")


def test_remove_asks_or_is_told(mara, references, monkeypatch):
    library, before = mara, tree(mara.folder)
    assert "would be removed from" in refused(library.folder, "cast", "remove", "mara")
    monkeypatch.setattr("anystory.cli.cast._asks", lambda: True)
    result = CliRunner().invoke(app, ["cast", "remove", "mara", "mara@winter"], input="n\n")
    assert result.exit_code == 1
    assert "Remove Mara, Mara@Winter" in result.output
    assert tree(library.folder) == before
    result = CliRunner().invoke(app, ["cast", "remove", "mara@winter"], input="y\n")
    assert (result.exit_code, library["mara"].variants) == (0, ())
    run("add", "Tom", references / "red.png")
    assert run("remove", "mimi", "MARA", "tom", "--yes") == "removed Mara\nremoved Tom\n"
    assert len(library) == 0


def test_a_character_and_its_variant_go_in_any_order(mara):
    run("remove", "mara", "mara@winter", "-y")
    assert len(mara) == 0


# --- sharing ---


def test_characters_go_from_library_to_library_in_zips(mara, references, tmp_path):
    run("add", "Tom", references / "red.png")
    said = run("export", "tom", "mimi", "--out", tmp_path / "new" / "zips")
    zips = [tmp_path / "new" / "zips" / name for name in ("tom.zip", "mara.zip")]
    assert said == f"Tom: {zips[0]}\nMara: {zips[1]}\n"
    other = tmp_path / "other"
    run("import", *zips, "--library", other)
    assert [character.names for character in Library(other)] == [("Mara", "Mimi"), ("Tom",)]
    said = run("import", zips[1], "--rename", "Anna", "--drop-alias", "Mimi")
    assert said == f"{zips[1]}: Anna, 1 photo, {mara.folder / 'anna'}\n"


def test_a_zip_may_go_without_the_photos(mara, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("export", "mara", "--no-photos")
    with zipfile.ZipFile("mara.zip") as zipped:
        assert not [name for name in zipped.namelist() if name.startswith(("photos", "masks"))]
    run("import", "mara.zip", "--library", "other")
    assert "(only its cut-out is here), found by alpha" in run("show", "mara", "--library", "other")


def test_a_bad_zip_does_not_keep_the_others_out(mara, tmp_path):
    run("export", "mara", "--out", tmp_path)
    (tmp_path / "bad.zip").write_text("no zip")
    zips = [tmp_path / name for name in ("bad.zip", "gone.zip", "mara.zip")]
    result = CliRunner().invoke(app, ["cast", "import", *map(str, zips), "--library", str(tmp_path / "other")])
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["anystory", "anystory"]
    assert "bad.zip is no zip" in lines[0]
    assert "gone.zip: No such file" in lines[1]
    assert [character.name for character in Library(tmp_path / "other")] == ["Mara"]


def test_exports_do_not_overwrite(mara, tmp_path):
    (tmp_path / "mara.zip").write_text("mine")
    assert "exists already" in refused(tmp_path, "cast", "export", "mara", "--out", tmp_path)
    run("export", "mara", "--out", tmp_path, "--overwrite")
    assert zipfile.is_zipfile(tmp_path / "mara.zip")


# --- refusals ---

REFUSALS: dict[str, tuple[list[str], str]] = {
    "no picture": (["add", "Tom"], "give pictures of the character, or --draw"),
    "pictures and words": (["add", "Tom", "{red}", "--draw", "a fox"], "one of the two"),
    "a missing picture": (["add", "Tom", "gone.png"], "PHOTO gone.png: no such file"),
    "a missing mask": (["add", "Tom", "{red}:gone.png"], "there is no mask 'gone.png'"),
    "a missing mask option": (["add", "Tom", "{red}", "--mask", "gone.png"], "gone.png': no such file"),
    "too many masks": (["add", "Tom", "{red}", "--mask", "{mask}", "--mask", "{mask}"], "--mask must be given once"),
    "masks twice": (["add", "Tom", "{blue}:{mask}", "--mask", "{mask}"], "not beside PHOTO:MASK"),
    "no picture at all": (["add", "Tom", "{text}"], "is not a picture that can be read"),
    "no segmenter": (["add", "Tom", "{blue}", "--segmenter", ""], "`segmenter` must be one of"),
    "no kind in words": (["add", "Tom", "--draw", "a zeppelin"], "names no kind of character"),
    "a taken name": (["add", "MARA", "{red}"], "the name 'MARA' is taken in"),
    "a taken alias": (["add", "Tom", "{red}", "--alias", "mimi"], "it is an alias of 'Mara'"),
    "a name with an @": (["add", "a@b", "{red}"], "name 'a@b' must not hold @"),
    "a name that is a number": (["add", "7", "{red}"], "must not be a number"),
    "a colour": (["add", "Tom", "{red}", "--colour", "red"], "colour must be #rrggbb"),
    "a variant twice": (["add", "mara", "{red}", "--variant", "winter"], "Mara has a variant 'winter' already"),
    "a variant of nobody": (["add", "Tom", "{red}", "--variant", "x"], "there is no character 'Tom'"),
    "a variant's alias": (["add", "mara", "{red}", "--variant", "x", "--alias", "y"], "--alias with --variant"),
    "nobody shown": (["show", "mra"], "there is no character 'mra' in {cast}: the nearest is 'Mara'"),
    "no variant shown": (["show", "mara@wintr"], "Mara has no variant 'wintr': it has 'Winter'"),
    "no reference": (["show", "@"], "'@' names no character"),
    "a card that is no PNG": (["show", "mara", "--card", "x.jpg"], "--card x.jpg: pictures are written as PNG"),
    "a sheet that is no PNG": (["sheet", "--out", "x.jpg"], "--out x.jpg: pictures are written as PNG"),
    "a sheet of nobody": (["sheet", "tom"], "there is no character 'tom'"),
    "no change": (["edit", "mara"], "nothing is to be changed"),
    "a change of nobody": (["edit", "tom", "--name", "x"], "there is no character 'tom'"),
    "a variant's colour": (["edit", "mara@winter", "--colour", "#010203"], "a variant has no colour of its own"),
    "the last photo": (["edit", "mara", "--drop-photo", "1"], "needs at least one photo"),
    "an alias that is not there": (["edit", "mara", "--drop-alias", "x"], "Mara has no alias 'x': it has 'Mimi'"),
    "nobody removed": (["remove", "mara", "tom", "--yes"], "there is no character 'tom'"),
    "nobody exported": (["export", "tom"], "there is no character 'tom'"),
    "a variant exported": (["export", "mara@winter"], "a character is exported whole"),
    "exported to a file": (["export", "mara", "--out", "{text}"], "--out must be a folder"),
    "no zip": (["import", "{text}"], "is no zip"),
    "a missing zip": (["import", "gone.zip"], "gone.zip: No such file"),
    "many zips renamed": (["import", "a.zip", "b.zip", "--rename", "x"], "--rename and --drop-alias are for one"),
    "a library that is a file": (["list", "--library", "{text}"], "{text}: is a file, not a folder"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_refusals_are_one_line_and_change_nothing(mara, references, tmp_path, kind):
    (references / "text.png").write_text("no picture")
    places = {"red": "red.png", "blue": "blue.png", "mask": "blue-mask.png", "text": "text.png"}
    names = {name: str(references / file) for name, file in places.items()} | {"cast": str(mara.folder)}
    arguments, said = REFUSALS[kind]
    line = refused(tmp_path, "cast", *(argument.format(**names) for argument in arguments))
    assert said.format(**names) in line


def test_an_empty_library_has_no_sheet(tmp_path):
    assert "no characters in" in refused(tmp_path, "cast", "sheet")


def test_the_verb_imports_no_torch(references, tmp_path):
    code = (
        "import sys\nfrom anystory.cli import app\n"
        "def run(*words):\n"
        "    try: app(list(words))\n"
        "    except SystemExit as end: assert not end.code, end.code\n"
        f"run('cast', 'add', 'Mara', {str(references / 'red.png')!r})\n"
        "run('cast', 'list')\n"
        f"run('cast', 'export', 'Mara', '--out', {str(tmp_path)!r})\n"
        "print('LOADED', *[m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ended.stdout.splitlines()[-1] == "LOADED"


# --- in a picture's place ---


def test_a_picture_of_characters_is_replayed_without_the_library(model, mara, tmp_path):
    common = ["--model", str(model), "--seed", "5", "--threads", "1", "--no-sheet", "--out", str(tmp_path / "out")]
    subjects = ["--subject", "@mimi", "-s", "coat=@mara@winter", "--region", "mara:0,0,0.5,1", "--scale", "coat:0.5"]
    result = CliRunner().invoke(app, ["generate", "f r", *subjects, *common])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out" / "0001.json").read_text(encoding="utf-8"))
    assert [subject["name"] for subject in record["subjects"]] == ["Mara", "coat"]
    assert [subject["cutout"] for subject in record["subjects"]] == ["alpha", "alpha"]
    assert record["subjects"][0]["region"] == [0, 0, 0.5, 1]
    shutil.rmtree(mara.folder)
    replay = ["replay", str(tmp_path / "out" / "0001.json"), "--model", str(model), "--out", str(tmp_path / "again")]
    again = CliRunner().invoke(app, replay)
    assert "the same picture, byte for byte" in again.output, again.output


def test_a_character_draws_what_its_photo_draws(model, mara, references, tmp_path):
    common = ["--model", str(model), "--seed", "5", "--threads", "1", "--no-sheet", "--no-metadata"]
    photo = f"{references / 'blue.png'}:{references / 'blue-mask.png'}"
    for subject, out in (("@mara@winter", "character"), (photo, "photo")):
        result = CliRunner().invoke(app, ["generate", "f", "-s", subject, *common, "--out", str(tmp_path / out)])
        assert result.exit_code == 0, result.output
    pictures = [(tmp_path / out / "0001.png").read_bytes() for out in ("character", "photo")]
    assert pictures[0] == pictures[1]


def test_generate_names_the_nearest_and_takes_another_library(mara, tmp_path):
    said = refused(tmp_path, "generate", "f", "-s", "@mra", "-o", tmp_path / "out")
    assert "there is no character 'mra' in" in said
    assert "the nearest is 'Mara'" in said
    said = refused(tmp_path, "generate", "f", "-s", "@mara", "-o", tmp_path / "out", "--library", tmp_path / "other")
    assert f"no character 'mara' in {tmp_path / 'other'}: it is empty" in said


def test_cutout_takes_a_characters_photos(mara, references, tmp_path):
    result = CliRunner().invoke(app, ["cutout", "@mara", "@mimi@winter", "@tom", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert result.stderr.startswith("anystory: there is no character 'tom'")
    assert re.search(r"photos/red-\w+.png: alpha", result.stdout)
    found = sorted(re.sub("-[0-9a-f]{16}", "", name) for name in os.listdir(tmp_path / "out"))
    assert found == [f"{name}-{kind}.png" for name in ("blue", "red") for kind in ("cutout", "mask", "sheet")]


def test_cutout_takes_a_file_whose_name_begins_with_an_at(references, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(references / "red.png", "@red.png")
    assert CliRunner().invoke(app, ["cutout", "@red.png", "--out", "out"]).exit_code == 0


# --- the guide ---


def test_the_guides_commands_and_code_run(model, library, references, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("fox.png", "fox-in-coat.png", "fox-side.png", "robot.jpg", "robot-mask.png"):
        source = {".jpg": "blue.png"}.get(Path(name).suffix, "blue-mask.png" if "mask" in name else "red.png")
        Image.open(references / source).save(name)
    text = (ROOT / "docs" / "cast.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(sh|python)\n(.*?)```", text, flags=re.DOTALL)
    ran = []
    for kind, block in blocks:
        if kind == "python":
            run("add", "mara", "fox-in-coat.png", "--variant", "winter")
            exec(compile(block, "docs/cast.md", "exec"), {})
            continue
        for line in block.splitlines():
            words = shlex.split(line)[1:]
            more = ["--model", str(model), "--steps", "1", "--no-sheet"] if words[0] == "generate" else []
            result = CliRunner().invoke(app, [*words, *more])
            assert result.exit_code == 0, (line, result.output)
            ran.append(words[1] if words[0] == "cast" else words[0])
    assert set(ran) == {"add", "list", "show", "sheet", "edit", "remove", "export", "import", "generate"}
    assert [character.name for character in library] == ["Blue", "Mara", "Mara Two", "Tom"]
