"""`anystory judge`: a run from pictures to report, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anystory.cli import app
from anystory.storyworld.attribute_classifier.classifier import AttributeClassifier


def run(*arguments: object, code: int = 0) -> str:
    """Run `anystory judge ...` and return all that it printed."""
    result = CliRunner().invoke(app, ["judge", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def test_a_judge_is_trained_in_parts_and_reported(tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ("--out", out, "--steps", 1, "--pictures", 64)
    run("train", *arguments, "--part", "scene")
    scene = (out / "judge" / "scene.safetensors").read_bytes()
    before = (out / "judge" / "character.safetensors").read_bytes()
    run("train", *arguments, "--part", "character")
    assert (out / "judge" / "scene.safetensors").read_bytes() == scene, "the other part is kept"
    assert (out / "judge" / "character.safetensors").read_bytes() != before
    assert AttributeClassifier.load(out / "judge").config.level == "level1"
    path = tmp_path / "report.json"
    said = run("report", "--judge", out / "judge", "--n", 2, "--json", path)
    assert "headwear" in said
    assert "below 97%" in said
    assert set(json.loads(path.read_text())["pictures"]) == {"renders", "rebuilt"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--steps", 1, "--part", "nose"), "--part must be one of"),
        ((), "--minutes or --steps"),
        (("--steps", 1, "--minutes", 1), "--minutes or --steps"),
        (("--steps", 1, "--model", "no such"), "no model 'no such'"),
        (("--steps", 1, "--part", "character"), "train --part scene first"),
    ],
)
def test_wrong_arguments_are_told(arguments: tuple[object, ...], message: str, tmp_path: Path) -> None:
    assert message in run("train", "--out", tmp_path / "run", *arguments, code=2)


def test_a_report_needs_a_judge(tmp_path: Path) -> None:
    assert "not an attribute classifier's folder" in run("report", "--judge", tmp_path, code=2)
