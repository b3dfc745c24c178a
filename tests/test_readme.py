"""The README's own code and commands, with the bundled references for the reader's pictures."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from anystory.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUN = ("cast", "generate", "replay", "world")
"""Verbs that need nothing but the package: the others need a model of others, photos, or hours."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the pictures that the page names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANYSTORY_CAST", str(tmp_path / "cast"))
    (tmp_path / "src").symlink_to(ROOT / "src")
    for name in ("fox.png", "robot.png"):
        shutil.copy(ROOT / "src" / "anystory" / "assets" / "demo" / name, name)
    Image.open("robot.png").convert("RGB").save("robot.jpg")
    Image.open("robot.png").convert("RGBA").getchannel("A").save("robot-mask.png")
    return tmp_path


def test_the_python_runs(here: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert Image.open(here / "story.png").size == (128, 128)


def test_the_commands_run(here: Path) -> None:
    found = re.findall(r"(?m)^    (?:\.venv/bin/)?anystory (.*)$", README.replace("\\\n", " "))
    ran = []
    for words in (shlex.split(line, comments=True) for line in found):
        if words[0] in RUN:
            more = ["--steps", "2"] if words[0] == "generate" else []
            result = CliRunner().invoke(app, [*words, *more])
            assert result.exit_code == 0, (words, result.output)
            ran.append(words[0])
    assert ran == ["generate", "generate", "cast", "replay", "world"]
    assert len(list((here / "out").glob("????.png"))) == 5
    assert (here / "again" / "0001.png").is_file()
    assert (here / "blue-fox.png").is_file()
    assert (here / "cast" / "mara" / "character.json").is_file()
