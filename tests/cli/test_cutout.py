"""`anystory cutout`, `--segmenter` of `generate` and `replay`, and `anystory models get`."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from anystory.cli import app
from anystory.engine.sheets.cutout_sheet import checkerboard
from anystory.files import sha256_file
from anystory.subjects.onnx_models import ONNX_MODELS
from onnx_files import write_onnx


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def u2net_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where rembg's models are looked for, with a small u2netp that finds what is red."""
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "u2net"))
    write_onnx(tmp_path / "u2net" / "u2netp.onnx")
    return tmp_path / "u2net"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A red rectangle, 30 wide and 40 high, on stripes."""
    pixels = np.full((60, 80, 3), 90, np.uint8)
    pixels[:, ::2] = 160
    pixels[10:50, 20:50] = (220, 30, 30)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_cut_out_is_written_as_picture_mask_and_sheet(u2net_home, photo, tmp_path):
    out = tmp_path / "out"
    result = run("cutout", photo, "--segmenter", "u2netp", "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{photo}: u2netp, confidence 0.")
    assert "uncertain" not in result.stdout
    assert names(out) == ["photo-cutout.png", "photo-mask.png", "photo-sheet.png"]
    cut, mask = (np.asarray(Image.open(out / f"photo-{kind}.png")) for kind in ("cutout", "mask"))
    assert (cut.shape, mask.shape) == ((60, 80, 4), (60, 80))
    np.testing.assert_array_equal(cut[..., 3], mask)
    assert (tuple(cut[30, 35]), tuple(cut[2, 2])) == ((220, 30, 30, 255), (255, 255, 255, 0))
    sheet = np.asarray(Image.open(out / "photo-sheet.png").convert("RGB")).reshape(-1, 3)
    for colour in ((204, 204, 204), (153, 153, 153), (255, 255, 255), (0, 0, 0)):
        assert (sheet == colour).all(axis=-1).sum() > 1000, colour


def test_what_was_cut_out_is_a_reference(u2net_home, photo, tmp_path):
    run("cutout", photo, "--segmenter", "u2netp", "--out", tmp_path / "out")
    again = run("cutout", tmp_path / "out" / "photo-cutout.png", "--out", tmp_path / "again")
    assert "alpha, confidence 1.00" in again.stdout


def test_many_pictures_with_a_bad_one_and_nothing_overwritten(u2net_home, photo, tmp_path):
    other = tmp_path / "other" / "photo.png"
    other.parent.mkdir()
    photo.rename(other)
    (tmp_path / "text.png").write_text("no picture")
    out = tmp_path / "out"
    out.mkdir()
    (out / "photo-mask.png").write_text("mine")
    result = run(
        "cutout", tmp_path / "text.png", other, tmp_path / "none.png", other, "--segmenter", "u2netp", "-o", out
    )
    assert result.exit_code == 2
    assert [line.partition(":")[0] for line in result.stderr.splitlines()] == ["anystory", "anystory"]
    assert "text.png" in result.stderr.splitlines()[0]
    assert "none.png': no such file" in result.stderr.splitlines()[1]
    assert len(result.stdout.splitlines()) == 2
    assert (out / "photo-mask.png").read_text() == "mine"
    taken = ["photo-2-cutout.png", "photo-2-mask.png", "photo-2-sheet.png", "photo-3-cutout.png", "photo-3-mask.png"]
    assert names(out) == [*taken, "photo-3-sheet.png", "photo-mask.png"]


def test_an_uncertain_cut_out_says_so(tmp_path):
    blotches = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    pixels = np.asarray(Image.fromarray(blotches).resize((160, 120), Image.Resampling.BICUBIC)).astype(int)
    y, x = np.mgrid[:120, :160]
    pixels[(x - 80) ** 2 + (y - 60) ** 2 < 900] += (90, 0, 0)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / "hard.png")
    result = run("cutout", tmp_path / "hard.png", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "hard.png: grabcut, confidence 0." in result.stdout
    assert "(uncertain: look at the sheet)" in result.stdout


@pytest.mark.parametrize("there", ["file", "link"])
def test_an_out_that_is_no_folder(u2net_home, photo, tmp_path, there):
    out = tmp_path / "out"
    out.write_text("mine") if there == "file" else out.symlink_to(tmp_path / "nowhere")
    result = run("cutout", photo, "--segmenter", "u2netp", "--out", out)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "--out must be a folder" in result.stderr


def test_names_as_long_as_a_file_system_takes(u2net_home, photo, tmp_path):
    long = photo.rename(photo.with_name("ü" * 120 + ".png"))
    result = run("cutout", long, "--segmenter", "u2netp", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert len(names(tmp_path / "out")) == 3


def test_refusals_are_one_sentence(photo, tmp_path, monkeypatch):
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "nothing"))
    (tmp_path / "u2netp.onnx").write_text("no model")
    for segmenter, words in (
        ("u2netp", "`anystory models get u2netp` says where to get it"),
        (tmp_path / "u2netp.onnx", "is damaged or no ONNX file of u2netp"),
        ("", "`segmenter` must be one of auto, border, grabcut, none"),
    ):
        result = run("cutout", photo, "--segmenter", segmenter, "--out", tmp_path / "out")
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
        assert words in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_checkerboard_has_both_greys_in_equal_parts():
    values, counts = np.unique(np.asarray(checkerboard(64, 32)), return_counts=True)
    assert (values.tolist(), counts[0]) == ([153, 204], counts[1])


# --- generate and replay ---


def test_generate_cuts_with_a_model_that_the_record_keeps(model, u2net_home, photo, tmp_path, monkeypatch):
    out = tmp_path / "out"
    common = ["--model", model, "--seed", 5, "--threads", 1, "--no-sheet"]
    monkeypatch.chdir(u2net_home)
    result = run("generate", "f r", *common, "-s", photo, "--segmenter", "u2netp.onnx", "--out", out)
    assert result.exit_code == 0, result.output
    record = json.loads((out / "0001.json").read_text(encoding="utf-8"))
    path = str(u2net_home / "u2netp.onnx")
    assert (record["subjects"][0]["segmenter"], record["subjects"][0]["cutout"]) == (path, path)
    assert record["weights"]["segmenter-1.onnx"] == sha256_file(path)
    again = run("replay", "--trust-paths", out / "0001.json", "--out", tmp_path / "again")
    assert "the same picture, byte for byte" in again.stdout, again.output
    moved = tmp_path / "moved" / "u2netp.onnx"
    moved.parent.mkdir()
    os.rename(path, moved)
    lost = run("replay", "--trust-paths", out / "0001.json", "--out", tmp_path / "again")
    assert (lost.exit_code, f"segmenter '{path}': no such file" in lost.stderr) == (2, True)
    write_onnx(moved, weights=(3.0, -2.0, -2.0), offset=0.0)
    other = run("replay", "--trust-paths", out / "0001.json", "--out", tmp_path / "again", "--segmenter", moved)
    assert "segmenter-1.onnx: " in other.stdout, other.output


def test_generate_says_that_a_cut_out_is_uncertain(model, tmp_path, photo):
    write_onnx(tmp_path / "u2netp.onnx", weights=(1.5, -1, -1), offset=0)
    common = ["--model", model, "--seed", 5, "--threads", 1, "--no-sheet", "--steps", 1, "--out", tmp_path / "out"]
    with pytest.warns(UserWarning, match="photo.png': the cut-out is uncertain .*confidence 0"):
        result = run("generate", "f r", *common, "-s", photo, "--segmenter", tmp_path / "u2netp.onnx")
    assert result.exit_code == 0, result.output


def test_the_guides_commands_run(model, u2net_home, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.open(photo).save("photo.jpg", quality=95)
    Image.open(photo).convert("RGB").save("fox.png")
    text = (Path(__file__).parents[2] / "docs" / "references.md").read_text(encoding="utf-8")
    commands = [shlex.split(line) for line in re.findall(r"(?m)^(?:    )?anystory (.*)$", text)]
    assert [command[0] for command in commands] == ["cutout", "models", "cutout", "generate"]
    for command in commands:
        more = ["--model", model, "--steps", 1, "--no-sheet"] if command[0] == "generate" else []
        result = run(*command, *more)
        assert result.exit_code == 0, (command, result.output)


# --- models get ---


def test_models_get_says_where_and_whether_it_is_there(u2net_home, monkeypatch):
    result = run("models", "get", "u2netp")
    assert result.exit_code == 0, result.output
    assert "/releases/download/v0.0.0/u2netp.onnx" in result.stdout
    assert "4,574,861 bytes (4.4 MiB), MD5 8e83ca70e441ab06c318d82300c84806" in result.stdout
    assert f"belongs    {u2net_home / 'u2netp.onnx'}" in result.stdout
    assert "ANOTHER FILE is there" in result.stdout
    found = json.loads(run("models", "get", "silueta", "--json").stdout)
    assert (found["there"], found["whole"], found["md5"]) == (False, None, ONNX_MODELS["silueta"].md5)


def test_models_get_of_what_is_not_known():
    result = run("models", "get", "birefnet")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "Known are u2netp, u2net, u2net_human_seg, silueta, isnet-general-use, isnet-anime" in result.stderr
