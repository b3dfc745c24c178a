"""Every stage through the command itself: killed, stopped and gone on with, it ends with the bits of an unbroken run.

`test_nothing_lost.py` kills one stage at every point of its writing; here each stage dies once, as a user's would.
"""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from anystory.training.recipe import STAGES, StageName
from anystory.training.runlog import read_log
from anystory.training.state.checkpoints import find_checkpoint

from .conftest import STEP_BY_STEP, WITH_DECODER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # every command is a process that imports torch

STEPS = 16
KILLED_AFTER, STOPPED_AFTER = 3, 7


class Runs(NamedTuple):
    """Two runs of the same stages, and at which steps the second one's processes ended, by stage."""

    unbroken: Path
    broken: Path
    ends: dict[StageName, list[int]]


def recipe() -> dict[str, Any]:
    """The tiny recipe, with a checkpoint and a line in the log after every step."""
    values = copy.deepcopy(WITH_DECODER)
    for stage in values["stages"].values():
        stage |= STEP_BY_STEP | {"steps": STEPS, "sample_every": 10, "validate_every": 10}
    return values


def start(arguments: Sequence[str | Path]) -> subprocess.Popen[str]:
    """An `anystory train` command with hash tables in an order of its own."""
    command = [sys.executable, "-m", "anystory", "train", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str], code: int) -> None:
    """Wait for a process; any other end than `code` is an error that shows what it printed."""
    printed = process.communicate()[0]
    assert process.returncode == code, printed


def end_in_the_middle(process: subprocess.Popen[str], log: Path, lines: int, number: signal.Signals) -> None:
    """Send a signal once the log has `lines` lines."""
    while process.poll() is None and not (log.is_file() and log.read_text().count("\n") >= lines):
        time.sleep(0.005)
    process.send_signal(number)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """One command for all stages, undisturbed; and one for each, killed, gone on with, stopped and gone on with."""
    folder = tmp_path_factory.mktemp("killed-commands")
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(recipe()), encoding="utf-8")
    unbroken, broken = folder / "unbroken", folder / "broken"
    ends: dict[StageName, list[int]] = {}
    with start(["mini", "--recipe", file, "--out", unbroken]) as undisturbed:
        for name in STAGES:
            log = broken / name / "log.jsonl"
            with start([name, "--recipe", file, "--out", broken]) as killed:
                end_in_the_middle(killed, log, KILLED_AFTER, signal.SIGKILL)
                finish(killed, -signal.SIGKILL)
            killed_at = last_step(broken, name)
            with start(["resume", broken]) as stopped:
                end_in_the_middle(stopped, log, STOPPED_AFTER, signal.SIGTERM)
                finish(stopped, 0)
            stopped_at = last_step(broken, name)
            with start(["resume", broken]) as resumed:
                finish(resumed, 0)
            ends[name] = [killed_at, stopped_at, last_step(broken, name)]
        finish(undisturbed, 0)
    return Runs(unbroken, broken, ends)


def last_step(run: Path, name: StageName) -> int:
    """The step of a stage's newest checkpoint."""
    found = find_checkpoint(run / name)
    assert found is not None
    return int(found.name.removeprefix("step-"))


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", STAGES)
def test_the_signals_came_in_the_middle_of_the_stage(runs: Runs, name: StageName) -> None:
    killed, stopped, ended = runs.ends[name]
    assert KILLED_AFTER - 1 <= killed < STOPPED_AFTER <= stopped < ended == STEPS


@pytest.mark.parametrize("name", STAGES)
def test_checkpoints_and_logs_are_those_of_the_unbroken_run(runs: Runs, name: StageName) -> None:
    found, expected = find_checkpoint(runs.broken / name), find_checkpoint(runs.unbroken / name)
    assert found is not None
    assert expected is not None
    for file in ("model", "ema", "optimizer"):
        file = f"{file}.safetensors"
        assert (found / file).read_bytes() == (expected / file).read_bytes(), file
    logs = [
        [{k: v for k, v in record.items() if k != "seconds"} for record in read_log(run / name / "log.jsonl")]
        for run in (runs.broken, runs.unbroken)
    ]
    assert logs[0] == logs[1]
    assert [record["step"] for record in logs[0] if "loss" in record] == list(range(1, STEPS + 1))


def test_the_models_are_the_same_to_the_byte(runs: Runs) -> None:
    found, expected = files_of(runs.broken / "model"), files_of(runs.unbroken / "model")
    assert found.keys() == expected.keys()
    assert {name.split("/")[0] for name in found} >= {"vae", "tokenizer_2", "text_encoder_2", "unet", "adapter"}
    assert not [name for name in found if found[name] != expected[name]]
