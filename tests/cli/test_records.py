"""A record comes from wherever: what is wrong with it is one line, and it is not followed out of its folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from anystory.cli import app
from cli.refusals import DAMAGE, refused, spoil

from .conftest import give_references


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def drawn_once(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    references = give_references(tmp_path_factory.mktemp("given"))
    out = tmp_path_factory.mktemp("drawn") / "out"
    subject = f"{references / 'blue.png'}:{references / 'blue-mask.png'}"
    result = run("generate", "f", "--model", model, "--out", out, "-s", subject, "--seed", 5, "--threads", 1)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def drawn(drawn_once: Path, tmp_path: Path) -> Path:
    """A folder with one picture, to be spoilt."""
    return shutil.copytree(drawn_once, tmp_path / "out")


def replay(drawn: Path, *more: object) -> list[object]:
    return ["replay", drawn / "0001.json", "--out", drawn.parent / "again", *more]


def edited(drawn: Path, edit: Callable[[dict[str, Any]], Any]) -> Path:
    """Change the record's entries in place."""
    record = drawn / "0001.json"
    data = json.loads(record.read_text())
    edit(data)
    record.write_text(json.dumps(data))
    return record


# --- damage ---


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_record_is_named(drawn, tmp_path, kind):
    spoil(drawn / "0001.json", kind)
    assert str(drawn / "0001.json") in refused(tmp_path, *replay(drawn))


ENTRIES: dict[str, Any] = {
    "steps": ["many", 0, -1, 1.5, 10**10, None, True, [1]],
    "seed": ["5", -1, 2**64, 0.5, None],
    "guidance": ["x", None, [], float("nan"), float("inf")],
    "width": [0, -8, 10**9, "64"],
    "prompt": [None, 3, ["f"]],
    "subjects": [{}, "x", [1], [None], [[]], None],
    "weights": [[], {"a": 1}, None],
    "environment": ["x", {"threads": 1}],
    "loras": ["x", [1], [{"file": 1}]],
    "strength": [2.0, "all"],
    "picture": [3, None],
    "tiling": [1, "yes"],
    "wings": [2],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in ENTRIES.items() for value in values])
def test_an_entry_of_another_type_or_range_is_named(drawn, tmp_path, name, value):
    record = edited(drawn, lambda data: data.update({name: value}))
    said = refused(tmp_path, *replay(drawn))
    assert str(record) in said
    assert name in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("region", [0, 0, 1]),
        ("region", "left"),
        ("scale", -1.0),
        ("scale_end", 7),
        ("image", "x"),
        ("more", [1]),
        ("hat", 1),
    ],
)
def test_an_entry_of_a_subject_is_named(drawn, tmp_path, name, value):
    edited(drawn, lambda data: data["subjects"][0].update({name: value}))
    assert f"subjects.0.{name}" in refused(tmp_path, *replay(drawn))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("device", "mars", "--device must be one of"),
        ("device", "cpu:x", "--device must be one of"),
        ("dtype", "int8", "--dtype must be one of"),
        ("scheduler", "os.system", "--scheduler must be one of"),
        ("environment", {"threads": "many"}, "number of threads"),
        ("environment", {}, "number of threads"),
        ("prompt", "f \udcff", "surrogate"),
    ],
)
def test_an_option_that_cannot_be_is_named(drawn, tmp_path, name, value, said):
    edited(drawn, lambda data: data.update({name: value}))
    line = refused(tmp_path, *replay(drawn, "--trust-paths"))
    assert said in line


# --- paths ---


def _subject_file(place: str) -> Callable[[dict[str, Any]], Any]:
    return lambda data: data["subjects"][0]["image"].update(file=place)


@pytest.mark.parametrize(
    "edit",
    [
        _subject_file("{secret}"),
        _subject_file("../secret.png"),
        _subject_file("references/../../secret.png"),
        _subject_file("references/link.png"),
        lambda data: data["subjects"][0]["mask"].update(file="{secret}"),
        lambda data: data.update(image={"file": "{secret}", "sha256": "0", "original": ""}),
        lambda data: data["subjects"][0].update(more=[{"image": {"file": "{secret}", "sha256": "0", "original": ""}}]),
        lambda data: data.update(picture="../secret.png"),
        lambda data: data.update(adapter="{secret}"),
        lambda data: data.update(image_encoder="../secret.png"),
        lambda data: data.update(config="~/sdxl"),
        lambda data: data.update(model="secret.png"),  # in the current directory
        lambda data: data.update(loras=[{"file": "style.safetensors", "scale": 1.0}]),
        lambda data: data["subjects"][0].update(segmenter="./secret.png"),
    ],
)
def test_a_strangers_record_is_not_followed_out_of_its_folder(drawn, tmp_path, monkeypatch, edit):
    secret = tmp_path / "secret.png"
    shutil.copy(next((drawn / "references").glob("blue-*.png")), secret)
    (drawn / "references" / "link.png").symlink_to(secret)
    monkeypatch.chdir(tmp_path)

    def all_of(data: dict[str, Any]) -> None:
        data["model"] = "mini"
        edit(data)
        data.update(json.loads(json.dumps(data).replace("{secret}", str(secret))))

    edited(drawn, all_of)
    said = refused(tmp_path, *replay(drawn))
    assert "names files outside its folder" in said
    assert "--trust-paths" in said


def test_the_folder_of_the_model_is_followed_when_asked(model, drawn, tmp_path):
    said = refused(tmp_path, *replay(drawn))
    assert f"model '{model}'" in said
    for number, way in enumerate((["--trust-paths"], ["--model", model]), start=1):
        result = run(*replay(drawn, *way))
        assert result.exit_code == 0, result.output
        assert (tmp_path / "again" / f"{number:04d}.png").is_file()


def test_a_record_whose_picture_is_no_picture(drawn, tmp_path):
    (drawn / "0001.png").write_text("<html>")
    edited(drawn, lambda data: data.update(picture_sha256="0" * 64))
    result = run(*replay(drawn, "--trust-paths"))
    assert result.exit_code == 1
    assert "not the recorded picture: the recorded picture" in result.stdout
    assert "is not a picture that can be read" in result.stdout
