"""Inputs that nobody means, or that mean harm: one line each, in no time, and nothing is written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from anystory.cli import app
from anystory.engine.options import check_device
from anystory.subjects import Subject
from cli.refusals import DAMAGE, refused, spoil, tree

# --- pictures ---

PICTURES = {
    "pipe": lambda path: os.mkfifo(path),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "sparse": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
    "empty": lambda path: path.touch(),
    "folder": lambda path: path.mkdir(),
    "text": lambda path: path.write_text("<svg/>"),
    "circle": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("option", ["-s {bad}", "-s {red}:{bad}", "-i {bad}", "-i {red} --mask {bad}"])
def test_what_is_no_picture_is_named(model, references, tmp_path, kind, option):
    bad = tmp_path / "bad.png"
    PICTURES[kind](bad)
    given = [part.format(bad=bad, red=references / "red.png") for part in option.split()]
    command = ["generate", "f", "--model", model, "-o", tmp_path / "out", "--steps", 1, *given]
    assert "bad.png" in refused(tmp_path, *command)


def test_a_pipe_or_an_endless_file_in_python(tmp_path):
    for kind in ("pipe", "device", "sparse"):
        path = tmp_path / kind
        PICTURES[kind](path)
        with pytest.raises(ValueError, match=r"is a pipe or a device|is larger than 1,024 MiB"):
            Subject(path).prepare(64)


# --- numbers ---


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generate", "f", "--seed", 2**32 - 1, "--num", 2], "goes past the largest seed, 4294967295"),
        (["demo", "--seed", 2**32 - 1, "--num", 2], "goes past the largest seed"),
        (["generate", "f", "--size", 10**5], "is more than 64,000,000 pixels"),
        (["generate", "f", "--size", "8x" + "9" * 5000], "--size must be a number of pixels"),
        (["world", "sheet", "--rows", 100, "--cols", 100, "--size", 4096], "is larger than 64,000,000 pixels"),
        (["generate", "f", "--device", "cpu:x"], "--device must be one of"),
        (["generate", "f", "--device", "cpu:1"], "--device must be one of"),
        (["generate", "f", "--device", "cuda:x"], "--device must be one of"),
        (["generate", "f", "--device", "cuda:٣"], "--device must be one of"),
        (["generate", "f", "--device", "mps:0"], "--device must be one of"),
        (["generate", "f \udcff"], "PROMPT holds bytes that are no UTF-8"),
        (["generate", "f", "--negative", "\udcff"], "--negative holds bytes that are no UTF-8"),
        (["generate", "f", "--model", "m\udcff"], "--model holds bytes that are no UTF-8"),
        (["generate", "f", "--model", "m" * 300], "m"),
        (["generate", "f", "-s", "x" * 300], "no such file"),
        (["generate", "f", "-s", "+".join(["x.png"] * 2000)], "no such file"),
        (["generate", "f", "-o", "x" * 300], "File name too long: name another folder"),
    ],
)
def test_values_out_of_range_are_refused(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert said in refused(tmp_path, *arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "f", "--seed", 2**32],
        ["demo", "--seed", 2**70],
        ["eval", "storyworld", "--seed", 2**70],
        ["train", "vae", "--out", "run", "--seed", 2**70],
        ["judge", "train", "--out", "run", "--steps", 1, "--seed", 2**70],
        ["adapter", "init", "--base", "x", "--ip-adapter", "y", "--out", "z", "--seed", 2**70],
        ["generate", "f", "--steps", 10**10],
        ["generate", "f", "--num", 10**20],
        ["generate", "f", "--threads", 10**6],
        ["train", "vae", "--out", "run", "--workers", 10**6],
        ["data", "storyworld", "--out", "set", "--n", 1, "--workers", 10**6],
    ],
)
def test_options_tell_their_range(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    assert "less than or equal to" in " ".join(result.output.replace("│", " ").split())
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("device", ["mps", "cuda", "cuda:99"])
def test_devices_that_are_not_here(device):
    import torch

    there = torch.backends.mps.is_available() if device == "mps" else device == "cuda" and torch.cuda.is_available()
    if there:
        check_device(device)
    else:
        with pytest.raises(ValueError, match=f"^device {device}: this machine"):
            check_device(device)


# --- names ---


def test_names_that_are_no_utf8_are_drawn_and_printed(model, references, tmp_path):
    """In a program of its own: it is about the bytes of the command line and of standard output."""
    name = os.fsdecode(b"f\xff.png")
    shutil.copy(references / "red.png", tmp_path / name)
    out = tmp_path / os.fsdecode(b"out\xfe")
    command = [
        sys.executable,
        "-m",
        "anystory",
        "generate",
        "f",
        "--model",
        str(model),
        "--threads",
        "1",
        "--steps",
        "1",
    ]
    said = subprocess.run([*command, "-s", str(tmp_path / name), "-o", str(out)], capture_output=True)
    assert said.returncode == 0, said.stderr
    assert os.fsencode(out / "0001.png") in said.stdout
    record = json.loads((out / "0001.json").read_text(encoding="utf-8"))
    (subject,) = record["subjects"]
    assert subject["name"] == "f_"
    assert (out / subject["image"]["file"]).is_file()


def test_a_subject_with_an_array_as_region_can_be_shown():
    region = np.ones((4, 6), np.uint8)
    shown = repr(Subject("fox.png", region=region, name="Ann"))
    assert shown == "Subject('fox.png', name=Ann, region=<array (4, 6) uint8>)"
    with pytest.raises(ValueError, match="has 2 photos"):
        Subject(["a.png", "b.png"], region=region).prepare(64)


def test_a_subject_with_a_picture_as_region_can_be_shown():
    torch = pytest.importorskip("torch")
    for region in (Image.new("L", (4, 4)), torch.ones(4, 4), [0.0, 0.0, 1.0, 1.0], (0.0, 0.0, 1.0, 1.0)):
        assert "region=" in repr(Subject("fox.png", region=region))


# --- many photos ---


@pytest.fixture
def photos(references) -> list[str]:
    """20 photos of one subject; together their paths are longer than any path may be."""
    paths = [references / f"{'very long name ' * 14}{number}.png" for number in range(20)]
    for path in paths:
        shutil.copy(references / "red.png", path)
    return [str(path) for path in paths]


def test_twenty_photos_of_a_subject_beside_one_of_another(model, photos, tmp_path):
    command = ["generate", "f", "--model", model, "-o", tmp_path / "out", "--threads", 1, "--steps", 1]
    result = CliRunner().invoke(app, [*map(str, command), "-s", "+".join(photos), "-s", photos[0]])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out" / "0001.json").read_text())
    assert [len(subject["more"]) for subject in record["subjects"]] == [19, 0]


def test_numbers_of_photos_without_a_small_common_multiple(model, photos, tmp_path):
    command = ["generate", "f", "--model", model, "-o", tmp_path / "out", "--threads", 1, "--steps", 1]
    said = refused(tmp_path, *command, "-s", "+".join(photos), "-s", "+".join(photos[:19]))
    assert "with 19, 20 photos would be brought to 380 photos each" in said


# --- files of settings ---


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize(
    "command",
    [
        ["train", "{file}.yaml", "--out", "{out}"],
        ["train", "vae", "--recipe", "{file}.yaml", "--out", "{out}"],
        ["train", "plan", "{file}.yaml"],
        ["train", "cache", "{file}.yaml", "--out", "{out}"],
        ["world", "scene", "--level", "{file}.json", "--out", "{out}.png"],
        ["data", "storyworld", "--level", "{file}.json", "--n", "1", "--out", "{out}"],
        ["judge", "train", "--level", "{file}.json", "--steps", "1", "--out", "{out}"],
    ],
)
def test_a_damaged_file_of_settings_is_named(tmp_path, command, kind):
    for suffix in (".yaml", ".json"):
        (tmp_path / f"settings{suffix}").touch()
        spoil(tmp_path / f"settings{suffix}", kind)
    given = [part.format(file=tmp_path / "settings", out=tmp_path / "out") for part in command]
    assert "settings" in refused(tmp_path, *given)


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("set.jsonl", ["data", "check", "{file}", "--workers", "0"]),
        ("set.jsonl", ["data", "pack", "{file}", "--out", "{out}"]),
        ("judge/config.json", ["judge", "report", "--judge", "{folder}", "--n", "1"]),
    ],
)
def test_a_damaged_file_of_data_is_named(tmp_path, name, command, kind):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    spoil(path, kind)
    given = [part.format(file=path, folder=path.parent, out=tmp_path / "out") for part in command]
    assert str(path.parent) in refused(tmp_path, *given)


# --- memory ---


def test_too_little_memory_is_a_sentence(monkeypatch):
    from anystory import cli

    def hungry() -> None:
        np.ones(1 << 60, np.uint8)

    monkeypatch.setattr(cli, "chosen", hungry, raising=False)
    monkeypatch.setitem(cli.VERBS, "generate", cli.Verb("anystory.cli", "chosen", "help"))
    result = CliRunner().invoke(app, ["generate"])
    assert result.exit_code == 1
    assert result.stderr.startswith("anystory: not enough memory (")
    assert len(result.stderr.splitlines()) == 1
