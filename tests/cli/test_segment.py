"""`anystory segment`, `adapter segmentation` and `eval segment`."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from anystory.cli import app
from anystory.evaluation.segment import trials
from anystory.evaluation.storyworld.cases import instance_masks
from anystory.files import sha256_file
from anystory.models.saved.checksums import read_sums, write_all_sums
from anystory.segment.fusion import Fusion
from anystory.storyworld.identity import is_heldout
from pipelines import helpers


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def scene(references: Path) -> Path:
    """A picture to look at, beside the references."""
    helpers.picture(48, 32).save(references / "scene.png")
    return references / "scene.png"


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_masks_layers_overlay_and_a_record(model, scene, references, tmp_path):
    out = tmp_path / "out"
    common = ["segment", scene, "--model", model, "--threads", 1, "--out", out]
    given = ["-s", references / "red.png", "-s", f"my blue={references / 'blue.png'}:{references / 'blue-mask.png'}"]
    result = run(*common, *given, "--levels", "0.2,0.5", "--draws", 2, "--seed", 3)
    assert result.exit_code == 0, result.output
    assert [line.split(":")[0] for line in result.stdout.splitlines()[:2]] == ["red", "my blue"]
    folder = out / "scene"
    assert result.stdout.splitlines()[-1] == str(folder)
    pictures = ["1-red-mask.png", "1-red.png", "2-my_blue-mask.png", "2-my_blue.png", "background.png", "overlay.png"]
    assert [name for name in names(folder) if "/" not in name] == [*pictures, "segmentation.json"]
    record = json.loads((folder / "segmentation.json").read_text(encoding="utf-8"))
    assert (record["format"], record["seed"]) == ("anystory-segmentation/1", 3)
    assert (record["fusion"]["levels"], record["fusion"]["draws"]) == ([0.2, 0.5], 2)
    assert record["picture"]["sha256"] == sha256_file(scene)
    assert record["weights"]["model/adapter/config.json"] == sha256_file(model / "adapter" / "config.json")
    whole = Image.new("RGBA", (48, 32))
    for one in record["subjects"]:
        assert (folder / one["subject"]["image"]["file"]).is_file()
        mask, layer = (Image.open(folder / one[kind]) for kind in ("mask", "layer"))
        assert (mask.mode, mask.size, layer.size) == ("L", (48, 32), (48, 32))
        assert np.isclose((np.asarray(mask) > 0).mean(), one["share"], atol=1e-6)
        assert np.array_equal(np.asarray(mask), np.asarray(layer)[..., 3])
        assert one["present"] == (one["share"] > 0)
        whole = Image.alpha_composite(whole, layer)
    whole = Image.alpha_composite(whole, Image.open(folder / record["background"]))
    assert np.array_equal(np.asarray(whole)[..., :3], np.asarray(Image.open(scene)))

    again = run(*common, *given, "--levels", "0.2,0.5", "--draws", 2, "--seed", 3, "--no-overlay")
    assert again.stdout.splitlines()[-1] == str(out / "scene-2"), "nothing is overwritten"
    assert "overlay.png" not in names(out / "scene-2")
    for name in pictures[:-1]:
        assert (out / "scene-2" / name).read_bytes() == (folder / name).read_bytes()
    assert names(out / "scene-2")[-1] == "segmentation.json"


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal: what is read from, and what a program writes to."""
    ends = pty.openpty()
    yield ends
    for end in ends:
        os.close(end)


def test_looks_are_shown_on_a_terminal_and_ctrl_c_leaves_nothing(model, scene, references, tmp_path, terminal):
    given = ["-s", references / "red.png", "--model", model, "--threads", 1, "-o", tmp_path / "out"]
    levels = ",".join(f"{level / 1000}" for level in range(1, 1000))
    given += ["--levels", levels, "--draws", 64]  # far more looks than anybody waits for
    command = [sys.executable, "-m", "anystory", "segment", *map(str, [scene, *given])]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal[1])
    try:
        said = b""
        while not re.search(rb"looking.*[1-9]\d*/\d{3}", said, re.S):
            assert program.poll() is None, said
            if select.select([terminal[0]], [], [], 1)[0]:
                said += os.read(terminal[0], 4096)
        program.send_signal(signal.SIGINT)
        printed = program.communicate(timeout=240)[0]
    finally:
        program.kill()
    while select.select([terminal[0]], [], [], 0)[0]:
        said += os.read(terminal[0], 4096)
    assert program.returncode not in (0, None)
    assert printed == b""
    assert b"Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_a_character_of_the_library(model, scene, references, tmp_path):
    library = tmp_path / "cast"
    added = run("cast", "add", "mara", references / "red.png", "--library", library)
    assert added.exit_code == 0, added.output
    result = run("segment", scene, "-s", "@mara", "--library", library, "--model", model, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "scene" / "1-mara-mask.png").is_file()


def test_flux(flux, scene, references, tmp_path):
    given = ["-s", references / "red.png", "--levels", "0.5", "--threads", 1, "-o", tmp_path / "out"]
    result = run("segment", scene, "--model", flux.whole, *given)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "scene" / "segmentation.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--subject is missing"),
        (["-s", "red.png", "--levels", "0.5,0.2"], "--levels must be rising numbers between 0 and 1"),
        (["-s", "red.png", "--levels", "half"], "--levels must be rising numbers between 0 and 1"),
        (["-s", "none.png"], "none.png"),
        (["-s", "red.png", "--model", "nowhere"], "nowhere"),
        (["-s", "red.png", "-o", "red.png"], "--out must be a folder"),
        (["-s", "red.png", "--region", "2:0,0,1,1"], "there is no subject 2"),
    ],
)
def test_bad_input_is_one_sentence(scene, references, monkeypatch, arguments, message):
    monkeypatch.chdir(references)
    before = names(references)
    result = run("segment", "scene.png", *arguments)
    assert (result.exit_code, message in result.stderr) == (2, True), result.output
    assert len([line for line in result.stderr.splitlines() if line.startswith("anystory:")]) == 1
    assert names(references) == before


def test_a_picture_that_is_none_is_refused_before_the_model(references, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    result = run("segment", tmp_path / "text.png", "-s", references / "red.png", "--model", "nowhere")
    assert (result.exit_code, "text.png" in result.stderr) == (2, True)


# --- fitting and measuring ---


@pytest.fixture
def own(model: Path, tmp_path: Path) -> Path:
    """A model that a test may change, with lists of hashes."""
    folder = Path(shutil.copytree(model, tmp_path / "own"))
    write_all_sums(folder)
    return folder


def test_a_fit_is_written_into_the_adapter(own, scene, references, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(trials, "instance_masks", lambda case: seen.append(case) or instance_masks(case))
    weights = sha256_file(next((own / "adapter").glob("*.safetensors")))
    result = run("adapter", "segmentation", own, "-n", 8, "--levels", "0.2,0.5", "--threads", 1)
    assert result.exit_code == 0, result.output
    people = [placement.identity for case in seen for placement in case.scene.placements]
    assert people
    assert not any(is_heldout(identity) for identity in people)
    config = json.loads((own / "adapter" / "config.json").read_text())
    fusion = Fusion.from_dict(config["segmentation"])
    assert fusion.levels == (0.2, 0.5)
    assert fusion.presence is not None
    for place in (own, own / "adapter"):
        assert {name: sha256_file(place / name) for name in read_sums(place)} == read_sums(place)
    assert sha256_file(next((own / "adapter").glob("*.safetensors"))) == weights
    result = run("segment", scene, "-s", references / "red.png", "--model", own, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out" / "scene" / "segmentation.json").read_text())
    assert Fusion.from_dict(record["fusion"]) == fusion


def test_what_cannot_be_fitted(tmp_path):
    result = run("adapter", "segmentation", tmp_path)
    assert (result.exit_code, "has no adapter" in result.stderr) == (2, True)


def test_an_evaluation_prints_and_writes_its_table(model, tmp_path):
    given = ["--model", model, "-n", 3, "--levels", "0.3", "--threads", 1]
    files = ["--page", tmp_path / "page.png", "--json", tmp_path / "table.json"]
    result = run("eval", "segment", *given, *files)
    assert result.exit_code == 0, result.output
    assert "absent: empty mask" in result.stdout
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["scenes"] == {"two": 2, "alike": 1}
    assert table["rows"]["mIoU"]["trials"] == 6
    assert table["rows"]["absent: empty mask"]["trials"] == 3
    assert len(table["bars"]) == 3
    assert Image.open(tmp_path / "page.png").width > 500
    again = run("eval", "segment", *given, *files)
    assert (again.exit_code, "exists already" in again.stderr) == (2, True)
