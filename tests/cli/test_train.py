"""`anystory train`: budgets, refusals in one line, and a run from nothing to packed weights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from anystory.cli import app
from anystory.cli.train import parse_minutes
from anystory.training.checkpoints import find_checkpoint
from training.conftest import TINY

STAGES = ("vae", "clip", "base", "encoder", "router")


def test_budgets() -> None:
    assert parse_minutes(None, STAGES) == {}
    assert parse_minutes("2.5", ("vae",)) == {"vae": 2.5}
    assert parse_minutes("3", STAGES) == dict.fromkeys(STAGES, 3.0)
    assert parse_minutes("vae=1, base=10", STAGES) == {"vae": 1.0, "base": 10.0}


@pytest.mark.parametrize("text", ["", "soon", "vae=", "vae=x", "cat=3", "vae=0", "-1", "vae=nan"])
def test_bad_budgets_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--minutes"):
        parse_minutes(text, STAGES)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["everything", "--out", "{out}"], "no training configuration 'everything'"),
        (["vae", "--out", "{out}", "--recipe", "huge"], "no recipe 'huge'"),
        (["vae", "--out", "{file}"], "is a file"),
        (["vae", "--out", "{out}", "--precision", "fp8"], "--precision is one of auto, bf16, fp32, got 'fp8'"),
        (["vae", "--out", "{out}", "--start", "{out}"], "is not a model folder"),
        (["base", "--out", "{out}", "--recipe", "{recipe}"], "train stage 'vae'"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "out").mkdir()
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    places = {"out": tmp_path / "out", "file": tmp_path / "file", "recipe": tmp_path / "tiny.yaml"}
    result = CliRunner().invoke(app, ["train", *(a.format(**places) for a in arguments)])
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output


def test_from_nothing_to_packed_weights_and_on(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(TINY))
    command = [sys.executable, "-m", "anystory", "train", "mini", "--recipe", str(recipe), "--workers", "0"]
    run, packed = str(tmp_path / "run"), tmp_path / "packed"
    done = subprocess.run([*command, "--out", run, "--pack-to", str(packed)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "packed:" in done.stdout
    # The packed model is a pipeline, and the start of another run.
    more = [*command[:-2], "--steps", "1", "--out", str(tmp_path / "more"), "--start", str(packed)]
    more[4] = "router"
    done = subprocess.run(more, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    draw = [sys.executable, "-m", "anystory", "generate", "a fox", "--steps", "1", "--model", str(packed)]
    done = subprocess.run([*draw, "--out", str(tmp_path / "out")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "0001.png").is_file()


def test_a_signal_to_the_whole_group_leaves_a_checkpoint(tmp_path: Path) -> None:
    recipe, log = tmp_path / "tiny.yaml", tmp_path / "run" / "vae" / "log.jsonl"
    recipe.write_text(yaml.safe_dump(TINY))
    command = [sys.executable, "-m", "anystory", "train", "vae", "--recipe", str(recipe), "--steps", "1000000"]
    run = subprocess.Popen([*command, "--out", str(tmp_path / "run")], start_new_session=True, stderr=subprocess.PIPE)
    try:
        while run.poll() is None and not (log.is_file() and log.stat().st_size):
            time.sleep(0.1)
        os.killpg(run.pid, signal.SIGTERM)
        said = run.communicate(timeout=60)[1].decode()
    finally:
        run.kill()
    assert "stopped at step" in said, said
    assert run.returncode == 0, said
    assert find_checkpoint(tmp_path / "run" / "vae") is not None
