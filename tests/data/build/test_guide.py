"""Every command of docs/data-build.md, in its order, on small folders; and what the command says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anystory.cli import app
from anystory.data.shards.shard_set import ShardSet
from data.build.folders import POSES, drawn, identity

GUIDE = Path(__file__).parents[3] / "docs" / "data-build.md"
SMALL = ["--set", "filter.least_side=64", "--set", "filter.least_sharpness=0"]


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.output


def test_every_command_of_the_guide(photos, scenes, write_video, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = [drawn(identity(3), pose) for pose in POSES for _ in range(12)]
    write_video(tmp_path / "clips" / "bear.mp4", frames)
    text = GUIDE.read_text(encoding="utf-8")
    (plan,) = re.findall(r"```yaml\n(.*?)```", text, re.S)
    Path("plan.yaml").write_text(plan, encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
    commands = [shlex.split(line) for block in blocks for line in block.strip().splitlines()]
    assert len(commands) == 8
    for words in commands:
        assert words.pop(0) == "anystory"
        if "--ray" in words:
            continue  # test_ray.py
        if words[1] == "build":
            words = [*words, *SMALL, *([] if "--workers" in words else ["--workers", "1"])]
        said = run(*words)
        if "--dry-run" in words:
            assert "nothing was written" in said
            assert not Path("shards").exists()
    assert len(ShardSet.open("shards/photos")) == 9
    assert len(ShardSet.open("shards/scenes")) == 2
    assert len(ShardSet.open("shards/clips")) >= 3
    record, _ = ShardSet.open("shards/planned").open_sample(3)
    assert (record.caption, record.licence, record.source) == ("a photo of ann", "CC BY 4.0", "our own photos")


def test_a_dry_run_says_what_is_done_and_writes_nothing(photos):
    out = photos.parent / "out"
    before = sorted(photos.parent.rglob("*"))
    said = run("data", "build", str(photos), "--out", str(out), "--workers", "3", *SMALL, "--dry-run")
    assert sorted(photos.parent.rglob("*")) == before
    assert "3 items with 9 files" in said
    assert "filter: least_side=64" in said
    assert "0 items are done" in said
    assert "3 are left, by 3 processes" in said
    run("data", "build", str(photos), "--out", str(out), "--workers", "1", *SMALL)
    assert "3 items are done" in run("data", "build", str(photos), "--out", str(out), *SMALL, "--dry-run")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "no such folder"),
        (["photos", "--kind", "films"], "there is no source 'films'"),
        (["photos", "--workers", "0"], "--workers must be at least 1"),
        (["photos", "--name", "a.b"], "has no dot"),
        (["photos", "--plan", "none.yaml"], "none.yaml"),
    ],
)
def test_mistakes_get_a_sentence(photos, monkeypatch, words, message):
    monkeypatch.chdir(photos.parent)
    result = CliRunner().invoke(app, ["data", "build", *words, "--out", "out"])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not Path("out").exists()
