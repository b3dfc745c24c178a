"""`anystory train`: budgets, refusals in one line, and a run from nothing to packed weights."""

from __future__ import annotations

import json
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
from anystory.cli.flags.training import parse_minutes
from anystory.models.saved.checksums import SUMS
from anystory.training.state.checkpoints import find_checkpoint
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
    packed = tmp_path / "packed"
    options = ["--recipe", recipe, "--threads", 1]
    said = run("train", "mini", *options, "--workers", 0, "--out", tmp_path / "run", "--pack-to", packed)
    assert "packed:" in said
    verified = CliRunner().invoke(app, ["models", "verify", str(packed)])
    assert verified.exit_code == 0, verified.output
    assert "nothing to compare with" not in verified.stdout
    assert f"tokenizer_2/tokenizer.json  (as in {SUMS})" in verified.stdout
    # The packed model is a pipeline, and the start of another run, here with a process that draws its samples.
    run("train", "router", *options, "--steps", 1, "--out", tmp_path / "more", "--start", packed)
    run("generate", "a fox", "--steps", 1, "--model", packed, "--out", tmp_path / "out")
    assert (tmp_path / "out" / "0001.png").is_file()
    # It draws with its own sampler, until training goes on with a recipe that names one.
    assert samplers(packed) == samplers(tmp_path / "more" / "model") == ["EulerDiscreteScheduler"] * 2
    recipe.write_text(yaml.safe_dump({**TINY, "sampler": "UniPCMultistepScheduler"}))
    run("train", "router", *options, "--steps", 1, "--out", tmp_path / "third", "--start", packed)
    assert samplers(tmp_path / "third" / "model") == ["UniPCMultistepScheduler"] * 2


def samplers(model: Path) -> list[str]:
    """What a model's index and its scheduler's file say."""
    index, config = model / "model_index.json", model / "scheduler" / "scheduler_config.json"
    return [json.loads(index.read_text())["scheduler"][1], json.loads(config.read_text())["_class_name"]]


def run(*arguments: object) -> str:
    """A command that ends well; what it printed."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


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
