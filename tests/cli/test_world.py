"""`anystory world`: pictures for a person to look at."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from anystory.cli import app
from anystory.storyworld.sampling import sample_scene
from anystory.storyworld.scene import Scene


def run(*arguments: object, code: int = 0) -> str:
    """Run `anystory world ...` and return all that it printed."""
    result = CliRunner().invoke(app, ["world", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def test_a_scene_is_drawn_with_its_mask_and_record(tmp_path: Path) -> None:
    out = tmp_path / "new" / "scene.png"
    said = run("scene", "--seed", 7, "--size", 48, "--out", out, "--mask", "--record")
    scene = sample_scene(7)
    assert scene.caption in said
    assert Image.open(out).size == (48, 48)
    colours = Image.open(out.with_name("scene-mask.png")).getcolors()
    assert colours is not None
    assert len(colours) == len(scene.placements) + 1
    assert Scene.from_dict(json.loads(out.with_suffix(".json").read_text())) == scene
    assert sorted(path.name for path in out.parent.iterdir()) == ["scene-mask.png", "scene.json", "scene.png"]


def test_a_sheet_shows_every_seed_and_caption(tmp_path: Path) -> None:
    said = run("sheet", "--seed", 3, "--rows", 2, "--cols", 3, "--size", 32, "--out", tmp_path / "sheet.png")
    assert Image.open(tmp_path / "sheet.png").size == (3 * 36 + 4, 2 * 36 + 4)
    assert f"8: {sample_scene(8).caption}" in said


def test_a_character_is_drawn_from_words(tmp_path: Path) -> None:
    out = tmp_path / "fox.png"
    run("character", "a striped blue fox with a red hat", "--pose", "waving", "--size", 96, "--out", out)
    picture = np.array(Image.open(out))
    assert picture.shape == (96, 96, 4)
    assert (picture[0, :, 3] == 0).all()
    solid = picture[picture[..., 3] == 255][:, :3].astype(int)
    red, green, blue = solid.T
    assert (blue > red + 40).mean() > 0.2, "mostly blue"
    assert ((red > blue + 60) & (red > green + 60)).mean() > 0.02, "with something red"


def test_words_that_are_not_understood_are_named(tmp_path: Path) -> None:
    said = run("character", "a blue fox with a zeppelin", "--size", 32, "--out", tmp_path / "fox.png")
    assert "zeppelin" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["scene", "--level", "9"], "level"),
        (["scene", "--split", "test"], "heldout"),
        (["character", "a blue fox", "--pose", "flying"], "standing"),
        (["character", "a blue fox", "--style", "oil"], "papercut"),
        (["character", "a blue zeppelin"], "fox"),
    ],
)
def test_mistakes_get_one_sentence_and_no_file(tmp_path: Path, arguments: list[str], words: str) -> None:
    out = tmp_path / "out.png"
    said = run(*arguments, "--out", out, code=2)
    assert words in said
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 1
    assert not out.exists()


def test_only_png_is_written(tmp_path: Path) -> None:
    said = run("scene", "--out", tmp_path / "scene.jpg", code=2)
    assert ".png" in said
    assert not list(tmp_path.iterdir())
