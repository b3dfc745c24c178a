"""`anystory data`: each command from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from anystory.cli import app
from anystory.data.manifest import write_manifest
from anystory.data.shards.index import INDEX_NAME
from anystory.data.shards.writer import ShardWriter
from data.samples import make_sample


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Five samples, one of them bad."""
    with ShardWriter(tmp_path / "shards", "set") as writer:
        for i in range(5):
            record, files = make_sample(f"k{i}", caption="" if i == 3 else "<b>two</b> things")
            writer.add(record, files.__getitem__)
    return tmp_path / "shards"


def test_check_reports_and_fails_above_the_limit(shards: Path, tmp_path: Path) -> None:
    result = run("check", shards, "--json", tmp_path / "found.json")
    assert result.exit_code == 1, result.output
    assert "empty_caption" in result.output
    assert "k3: the caption is empty" in result.output
    assert "FAILED: 1 of 5 samples are bad" in result.output
    assert json.loads((tmp_path / "found.json").read_text())["bad_by_reason"] == {"empty_caption": 1}
    others = run("check", shards, "--json", tmp_path / "others.json", "--workers", "2")
    assert others.output == result.output.replace("found.json", "others.json")
    assert (tmp_path / "others.json").read_bytes() == (tmp_path / "found.json").read_bytes()
    passed = run("check", shards, "--limit", "0.2")
    assert (passed.exit_code, "passed: 1 of 5" in passed.output) == (0, True)


def test_storyworld_then_check(tmp_path: Path) -> None:
    result = run("storyworld", "--out", tmp_path, "--n", "3", "--size", "32", "--workers", "0")
    assert (result.exit_code, result.stdout) == (0, f"drew 3 samples into {tmp_path}\n")
    assert run("check", tmp_path).exit_code == 0
    assert "drew 1 samples" in run("storyworld", "--out", tmp_path, "--n", "4", "--size", "32", "--workers", "0").output


def test_inspect_writes_a_page(shards: Path, tmp_path: Path) -> None:
    result = run("inspect", shards, "--out", tmp_path / "page", "--n", "2", "--workers", "1")
    assert (result.exit_code, result.stdout) == (0, f"wrote {tmp_path / 'page' / 'index.html'}\n")
    assert "&lt;b&gt;two&lt;/b&gt; things" in (tmp_path / "page" / "index.html").read_text(encoding="utf-8")


def test_index_and_a_stale_one(shards: Path) -> None:
    (shards / INDEX_NAME).unlink()
    refused = run("check", shards)
    assert refused.exit_code == 2
    assert "anystory data index" in refused.output
    assert "5 samples in 1 shards" in run("index", shards).output
    assert run("check", shards, "--limit", "1").exit_code == 0


def test_pack(tmp_path: Path) -> None:
    record, files = make_sample("a")
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    write_manifest([record], tmp_path / "manifest.jsonl")
    result = run("pack", tmp_path / "manifest.jsonl", "--out", tmp_path / "shards", "--name", "mine")
    assert (result.exit_code, "all 1 samples are good" in result.output) == (0, True)
    assert (tmp_path / "shards" / "mine-000000.tar").is_file()


def test_mistakes_are_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text('{"key": "a"}\n')
    for arguments, words in (
        (("check", tmp_path / "nothing"), "is not a folder of shards"),
        (("check", tmp_path), "line 1: image: Field required"),
        (("storyworld", "--out", tmp_path, "--n", "1", "--level", "7"), "no level 7"),
    ):
        result = run(*arguments)
        assert (result.exit_code, words in result.output) == (2, True), result.output


def test_brackets_in_a_source_are_no_markup(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "set") as writer:
        record, files = make_sample("a", source="[/b] my [red]set")
        writer.add(record, files.__getitem__)
    result = run("check", tmp_path)
    assert (result.exit_code, "[/b] my [red]set: 1" in result.output) == (0, True), result.output
