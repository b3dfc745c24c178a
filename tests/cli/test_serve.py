"""`anystory serve` as it is typed; what it does as a program is in tests/serving."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from anystory.cli import app
from anystory.serving.keys import KeyRing


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["serve", *map(str, words)])
    return result.exit_code, result.output


def test_a_new_key_is_printed_once_and_its_hash_kept(tmp_path: Path):
    path = tmp_path / "keys.yaml"
    code, key = run("--keys", path, "--new-key", "ann")
    assert code == 0
    found = KeyRing.read(path).find(key.strip())
    assert found is not None
    assert found.name == "ann"
    assert key.strip() not in path.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "0.0.0.0"], "0.0.0.0 can be reached from other machines: give --keys FILE"),
        (["--new-key", "ann"], "name it with --keys FILE"),
        (["--keys", "none.yaml"], "none.yaml"),
        (["--watermark"], "pip install invisible-watermark"),
        (["--data", "/dev/null/x"], "--data /dev/null/x cannot be made"),
        (["--batch", "0"], "batch"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said = run("--port", "0", *words)
    assert code == 2
    assert message in " ".join(said.split())
