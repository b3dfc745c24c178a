"""A run that is killed at any moment and goes on ends with the same bits as one that nobody disturbed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from anystory.training.runlog import read_log
from anystory.training.state.checkpoint import damage
from anystory.training.state.checkpoints import best_checkpoint, find_checkpoint

from .killed_runs import STEPS, TERMINATED

KILLED = -signal.SIGKILL
pytestmark = pytest.mark.slow


Runs = tuple[Path, dict[str, list[int]]]


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    """The folder of all runs, and how each of their processes ended."""
    memory = Path("/dev/shm")  # hundreds of checkpoints are flushed: a disk in use elsewhere would take minutes
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        command = [sys.executable, str(Path(__file__).with_name("killed_runs.py")), name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        yield Path(name), json.loads(done.stdout.splitlines()[-1])


def end_of(run: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the last checkpoint and of the exported model."""
    found = find_checkpoint(run / "vae")
    assert found is not None
    assert found.name == f"step-{STEPS:08d}"
    assert damage(found) is None
    files = [*sorted(found.glob("*.safetensors")), *sorted((run / "model").rglob("*.safetensors"))]
    assert len(files) == 4
    return {f"{file.parent.name}/{file.stem}/{k}": v for file in files for k, v in load_file(file).items()}


def log_of(run: Path) -> list[dict[str, Any]]:
    """The log without the clock."""
    return [{k: v for k, v in record.items() if k != "seconds"} for record in read_log(run / "vae" / "log.jsonl")]


@pytest.mark.parametrize(
    ("scenario", "like"), [("points", "unbroken"), ("moments", "unbroken"), ("two", "unbroken-two")]
)
def test_a_killed_run_ends_with_the_same_bits(runs: Runs, scenario: str, like: str) -> None:
    folder, codes = runs
    assert codes[like] == [0]
    assert codes[scenario][-1] == 0
    assert codes[scenario].count(KILLED) >= 2, codes[scenario]
    expected, found = end_of(folder / like), end_of(folder / scenario)
    assert expected.keys() == found.keys()
    different = [key for key, value in expected.items() if not torch.equal(value, found[key])]
    assert not different, different[:5]
    assert log_of(folder / scenario) == log_of(folder / like)
    assert [r["step"] for r in log_of(folder / scenario) if "loss" in r] == list(range(1, STEPS + 1))
    best = [best_checkpoint(folder / run / "vae") for run in (scenario, like)]
    assert best[0] is not None
    assert best[1] is not None
    assert best[0].name == best[1].name
    left = sorted(p.name for p in (folder / scenario / "vae" / "checkpoints").iterdir())
    assert left == sorted(p.name for p in (folder / like / "vae" / "checkpoints").iterdir()), "nothing half-done stays"


def test_every_point_of_writing_was_hit(runs: Runs) -> None:
    codes = runs[1]["points"]
    assert codes.count(KILLED) == len(codes) - 1, codes


def test_sigterm_to_one_process_or_all_stops_both_with_a_checkpoint(
    runs: Runs,
) -> None:
    assert runs[1]["two"] == [KILLED, KILLED, TERMINATED, TERMINATED, 0]


def test_the_runs_differ_where_they_should(runs: Runs) -> None:
    """Two processes see twice the samples: if the comparison above compared nothing, this would fail."""
    folder, _ = runs
    one, two = end_of(folder / "unbroken"), end_of(folder / "unbroken-two")
    assert any(not torch.equal(value, two[key]) for key, value in one.items())
