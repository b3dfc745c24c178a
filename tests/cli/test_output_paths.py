"""Where verbs write: what is in the way is named before anything is loaded, and nothing of a user's is overwritten."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from anystory.cli import app
from cli.refusals import refused, tree

FOLDERS: dict[str, list[str]] = {
    "generate": ["generate", "f", "--model", "{model}", "-o", "{out}"],
    "replay": ["replay", "{file}", "-o", "{out}"],
    "demo": ["demo", "-o", "{out}"],
    "cutout": ["cutout", "{file}", "-o", "{out}"],
    "cast export": ["cast", "export", "mara", "--out", "{out}"],
    "data inspect": ["data", "inspect", "{shards}", "--out", "{out}"],
    "data pack": ["data", "pack", "{file}", "--out", "{out}"],
    "data storyworld": ["data", "storyworld", "--n", "1", "--out", "{out}"],
    "train": ["train", "vae", "--out", "{out}"],
    "train cache": ["train", "cache", "mini-128", "--model", "mini", "--out", "{out}"],
    "train export": ["train", "export", "{folder}", "--out", "{out}"],
    "train average": ["train", "average", "mini", "mini", "--out", "{out}"],
    "adapter init": ["adapter", "init", "--base", "x", "--ip-adapter", "y", "--out", "{out}"],
    "eval": ["eval", "storyworld", "--out", "{out}"],
    "judge train": ["judge", "train", "--steps", "1", "--out", "{out}"],
}
"""Verbs that write into a folder."""

FILES: dict[str, list[str]] = {
    "world sheet": ["world", "sheet", "--out", "{out}.png"],
    "world scene": ["world", "scene", "--out", "{out}.png"],
    "world character": ["world", "character", "a blue fox", "--out", "{out}.png"],
    "cast show": ["cast", "show", "mara", "--card", "{out}.png"],
    "cast sheet": ["cast", "sheet", "--out", "{out}.png"],
    "bench flops": ["bench", "flops", "--json", "{out}.png"],
    "bench speed": ["bench", "speed", "--json", "{out}.png"],
    "bench training": ["bench", "training", "--json", "{out}.png"],
    "judge report": ["judge", "report", "--json", "{out}.png"],
    "data check": ["data", "check", "{folder}", "--json", "{out}.png"],
    "eval": ["eval", "storyworld", "--json", "{out}.png"],
}
"""Verbs that write a file."""


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """A file, a folder, a link to nothing and a pipe, of a user's."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "file.png").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.png").mkdir()
    for name in ("link", "link.png"):
        (tmp_path / name).symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    return {"file": tmp_path / "file", "folder": tmp_path / "folder", "shards": tmp_path / "folder"}


def arguments(form: list[str], out: Path, **places: Any) -> list[str]:
    return [argument.format(out=out, **({"model": "mini"} | places)) for argument in form]


@pytest.mark.parametrize("form", FOLDERS.values(), ids=FOLDERS)
def test_a_folder_that_cannot_be_is_told_at_once(form, places, tmp_path):
    for name, what in (("file", "is a file"), ("link", "is a link to nothing")):
        for inside in ("", "deeper/still"):
            said = refused(tmp_path, *arguments(form, tmp_path / name / inside, **places))
            assert str(tmp_path / name) in said
            assert what in said or "exists already and is not empty" in said  # adapter init, for a file


@pytest.mark.parametrize("form", FILES.values(), ids=FILES)
def test_a_file_that_is_there_is_not_overwritten(form, places, tmp_path):
    for name in ("file", "link", "folder", "pipe"):
        said = refused(tmp_path, *arguments(form, tmp_path / name, **places))
        assert f"{tmp_path / name}.png" in said
        assert "exists already" in said
    said = refused(tmp_path, *arguments(form, tmp_path / "file" / "deeper", **places))
    assert f"{tmp_path / 'file'} is a file" in said


@pytest.mark.parametrize("form", FILES.values(), ids=FILES)
def test_what_is_no_file_is_not_overwritten_at_all(form, places, tmp_path):
    for name, what in (("folder", "is a folder"), ("pipe", "is a device or a pipe")):
        assert what in refused(tmp_path, *arguments(form, tmp_path / name, **places), "--overwrite")


def test_the_world_is_drawn_over_a_file_only_when_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def world(*arguments: object) -> str:
        result = CliRunner().invoke(app, ["world", *map(str, arguments)])
        assert result.exit_code == 0, result.output
        return result.stdout

    first = ["scene", "--size", 16]
    world(*first)
    assert "scene-2.png" in world(*first)  # a name that nobody chose gives way
    before = tree(tmp_path)
    Path("one.json").write_text("mine")
    assert "one.json exists already" in refused(tmp_path, "world", *first, "--out", "one.png", "--record")
    world(*first, "--out", "one.png", "--record", "--mask", "--overwrite")
    assert json.loads(Path("one.json").read_text())
    assert {name: what for name, what in tree(tmp_path).items() if name in before} == before
    shutil.copy("one-mask.png", "two-mask.png")
    assert "two-mask.png exists already" in refused(tmp_path, "world", *first, "--out", "two.png", "--mask")


# --- pictures with their records ---


def generate(model: Path, out: Path, *more: object) -> Any:
    given = ["f", "--model", model, "-o", out, "--seed", 5, "--threads", 1, "--steps", 1, *more]
    return CliRunner().invoke(app, ["generate", *map(str, given)])


def test_a_users_file_among_the_references_stays(model, references, tmp_path):
    assert generate(model, tmp_path / "out", "-s", references / "red.png").exit_code == 0
    (copy,) = (tmp_path / "out" / "references").iterdir()
    copy.write_text("mine")
    result = generate(model, tmp_path / "out", "-s", references / "red.png")
    assert result.exit_code == 0, result.output
    assert copy.read_text() == "mine"
    used = json.loads((tmp_path / "out" / "0002.json").read_text())["subjects"][0]["image"]["file"]
    assert (tmp_path / "out" / used).read_bytes() == (references / "red.png").read_bytes()
    # And where somebody has taken all names, it says so.
    digest = json.loads((tmp_path / "out" / "0002.json").read_text())["subjects"][0]["image"]["sha256"]
    for name in (used, f"references/red-{digest}.png"):
        (tmp_path / "out" / name).write_text("mine")
    before = tree(tmp_path)
    result = generate(model, tmp_path / "out", "-s", references / "red.png")
    assert result.exit_code == 2
    assert "references holds other files under the names" in result.stderr
    assert tree(tmp_path) == before


@pytest.mark.parametrize("length", [240, 250])
def test_references_with_long_names_are_kept(model, references, tmp_path, length):
    subject = references / ("ä" * ((length - 4) // 2) + ".png")
    shutil.copy(references / "red.png", subject)
    result = generate(model, tmp_path / "out", "-s", subject)
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out" / "0001.json").read_text())
    assert (tmp_path / "out" / record["subjects"][0]["image"]["file"]).is_file()


# --- folders that go on ---


def test_an_index_of_another_program_stays(tmp_path):
    shards = tmp_path / "shards"
    result = CliRunner().invoke(app, ["data", "storyworld", "--n", "1", "--size", "32", "--out", str(shards)])
    assert result.exit_code == 0, result.output
    (shards / "index.json").write_text('{"shardlist": []}')
    said = refused(tmp_path, "data", "index", shards)
    assert f"{shards / 'index.json'} is another program's file (it holds shardlist): move it away" in said
    (shards / "index.json").write_text('{"shards": [')  # a damaged one is written again
    assert CliRunner().invoke(app, ["data", "index", str(shards)]).exit_code == 0


def test_a_trained_judge_stays(tmp_path):
    from anystory.storyworld.attribute_classifier.classifier import AttributeClassifier
    from anystory.storyworld.attribute_classifier.config import ClassifierConfig

    AttributeClassifier(ClassifierConfig.of_level(1)).save(tmp_path / "run" / "judge")
    command = ["judge", "train", "--steps", "1", "--pictures", "64", "--out", tmp_path / "run"]
    assert f"{tmp_path / 'run' / 'judge'} is a judge already" in refused(tmp_path, *command)
    (tmp_path / "other" / "judge" / "letters").mkdir(parents=True)
    said = refused(tmp_path, *command[:-1], tmp_path / "other")
    assert "is something else: name another --out" in said
