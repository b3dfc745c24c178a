"""The commands of docs/training.md for many GPUs and nodes, launched by accelerate itself on two CPU processes.

Nothing is exchanged but what test_training_guide.py exchanges, the number of processes, and the first node's address;
accelerate is brought to do on CPUs what it does on GPUs (`training/on_cpus`).
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anystory.cli import app
from anystory.models.adapter import SubjectAdapter
from anystory.training.state.checkpoints import find_checkpoint
from training.together import free_port, run_together

from .test_training_guide import GUIDE, PAPERS, ROOT, commands, here, small

__all__ = ["here"]
KINDS = ("ddp", "pieces", "nodes")
"""The page's blocks with such commands, in its order."""


def launched(words: list[str], port: str) -> list[str]:
    """A line of the guide as it stands, at this test's size."""
    at = words.index("-m")
    given = ["127.0.0.1" if word == "10.0.0.1" else word for word in words[2:at]]
    given[given.index("--config_file") + 1] = str(ROOT / given[given.index("--config_file") + 1])
    script = [f"recipes/{w}.yaml" if w in PAPERS else w.removeprefix("/") for w in words[at:]]
    more = [] if "resume" in script else ["--steps", "1", "--workers", "0", "--precision", "bf16"]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--main_process_port", port]
    return [*launcher, *given, *script, *more]


def on_cpus() -> dict[str, str]:
    """The environment of a launch."""
    paths = [str(ROOT / "tests" / "training" / "on_cpus"), os.environ.get("PYTHONPATH", "")]
    quiet = {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "ACCELERATE_USE_CPU": "true",
    }
    return os.environ | quiet


def build_shards(here: Path) -> None:
    """The guide's photos as shards, made by its own command, also where all nodes see them."""
    (build,) = [words for words in commands(GUIDE) if words[1:3] == ["data", "build"]]
    result = CliRunner().invoke(app, small(build[1:]))
    assert result.exit_code == 0, result.output
    (here / "shared").mkdir()
    (here / "shared" / "shards").symlink_to(here / "shards" / "photos")


def launches() -> list[list[list[str]]]:
    """The page's launching commands, block by block: a block needs nothing of another."""
    blocks = [commands(f"```sh\n{text}```") for text in re.findall(r"```sh\n(.*?)```", GUIDE, re.S)]
    found = [[words for words in block if words[:2] == ["accelerate", "launch"]] for block in blocks]
    return [block for block in found if block]


def test_every_command_is_in_a_block_below() -> None:
    assert len(launches()) == len(KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_launches_run(here: Path, kind: str) -> None:
    build_shards(here)
    block = launches()[KINDS.index(kind)]
    at_once = any("--machine_rank" in words for words in block)
    for group in [block] if at_once else [[words] for words in block]:
        port = free_port()
        said = "\n".join(run_together([launched(words, port) for words in group], [on_cpus()] * len(group)))
        assert said.count("\nmodel: ") == 1, "one process speaks for all"
        out = here / group[0][-1].removeprefix("/")
        stage = {"stage1": "encoder", "stage2": "router"}[out.name]
        assert find_checkpoint(out / stage) is not None
        SubjectAdapter.from_pretrained(out / "model" / "adapter")
