"""Several processes: each sample once, gradients of all, weights in pieces; the files of configs/accelerate."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands.config.config_args import ClusterConfig
from safetensors.torch import load_file

from anystory.models.adapter import SubjectAdapter
from anystory.training.checkpoints import find_checkpoint
from anystory.training.loop import train
from anystory.training.recipe import StageConfig
from anystory.training.sharding import WRAPPED
from anystory.training.stream import StreamSampler

from .lines import LineStage
from .sdxl_base import write_base
from .test_loop import options

CONFIGS = Path(__file__).parents[2] / "configs" / "accelerate"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_base(tmp_path_factory.mktemp("base"))


FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": ",".join(WRAPPED),
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
}
"""What `accelerate launch` tells its processes of a configuration with FSDP2."""
KINDS = {
    "ddp": {"ACCELERATE_USE_CPU": "true"},
    "fsdp2": {"ACCELERATE_USE_CPU": "true", "FSDP_RESHARD_AFTER_FORWARD": "true", **FSDP},
    "zero2": {"ACCELERATE_USE_CPU": "true", "FSDP_RESHARD_AFTER_FORWARD": "false", **FSDP},
    "deepspeed": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2", "DS_ACCELERATOR": "cpu"},
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "deepspeed" and not find_spec("deepspeed"):
        pytest.skip("deepspeed is not installed: pip install 'anystory[deepspeed]'")
    return request.param


@pytest.fixture(scope="module")
def done(kind: str, tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """The runs of `launched.py` in two processes under gloo, started as torchrun would."""
    out = tmp_path_factory.mktemp("two")
    train(LineStage(), settings(batch_size=2, global_batch=16, steps=2), options(out / "crossed"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
        **KINDS[kind],
    }
    command = [sys.executable, "-m", "training.launched", str(out), str(base)]
    runs = [
        subprocess.Popen(
            command,
            env=shared | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in "01"
    ]
    try:
        said = [run.communicate(timeout=280)[0] for run in runs]
    finally:
        for run in runs:
            run.kill()
    assert [run.returncode for run in runs] == [0, 0], "\n".join(text[-3000:] for text in said)
    return out


@pytest.mark.parametrize("world", [1, 2, 3])
def test_an_epoch_of_positions_comes_once_whatever_the_processes(world: int) -> None:
    batch, steps = 4, 6
    seen: list[int] = []
    for rank in range(world):
        positions = iter(StreamSampler(0, batch, rank, world))
        seen += [next(positions) for _ in range(batch * steps)]
    assert sorted(seen) == list(range(batch * steps * world))


def test_two_processes_learn_what_one_learns_from_twice_the_batch(kind: str, done: Path, tmp_path: Path) -> None:
    alone = LineStage()
    train(alone, settings(batch_size=8), options(tmp_path))
    parts = [json.loads((done / "plain" / f"seen-{rank}.json").read_text()) for rank in range(2)]
    assert not {p for batch in parts[0] for p in batch} & {p for batch in parts[1] for p in batch}
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(batch) for batch in alone.seen]
    found = load_file(newest(done / "plain") / "model.safetensors")
    for name, value in alone.trained_parameters().items():
        if kind == "deepspeed" and name.startswith("unused"):  # its pieces all decay, gradient or not
            value = value * (1 - 1e-2 * 0.01) ** 3
        torch.testing.assert_close(found[name], value.detach(), rtol=1e-5, atol=1e-6)


def test_a_resumed_run_of_two_processes_equals_the_unbroken_one(done: Path) -> None:
    for part in ("model", "ema", "optimizer"):
        found, expected = (load_file(newest(done / run) / f"{part}.safetensors") for run in ("broken", "unbroken"))
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(found[name], value), name


def test_a_run_of_one_process_goes_on_in_two(done: Path) -> None:
    """Whatever keeps the moments, and in however many pieces, reads the checkpoints of every other."""
    for part in ("model", "optimizer"):
        found, expected = (load_file(newest(done / run) / f"{part}.safetensors") for run in ("crossed", "unbroken"))
        names = {name for name in expected if not name.startswith("unused")}  # that decays under DeepSpeed
        assert names <= found.keys()
        for name in names:
            torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-6, msg=f"{part}: {name}")


def test_moments_are_stored_alike_however_they_are_kept(done: Path, tmp_path: Path) -> None:
    train(LineStage(), settings(batch_size=8), options(tmp_path))
    found, expected = (load_file(newest(run) / "optimizer.safetensors") for run in (done / "plain", tmp_path))
    assert expected.keys() <= found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-7, msg=name)


def test_both_stages_run_in_two_processes_and_export_whole_weights(done: Path, base: Path) -> None:
    folder = done / "stages" / "model" / "adapter"
    adapter = SubjectAdapter.from_pretrained(folder)
    weights = adapter.state_dict()
    for stage in ("encoder", "router"):
        for name, value in load_file(newest(done / "stages", stage) / "ema.safetensors").items():
            assert value.isfinite().all()
            torch.testing.assert_close(weights[name], value)


def settings(**changes: Any) -> StageConfig:
    values = {"batch_size": 4, "learning_rate": 1e-2, "warmup_steps": 1, "steps": 3, "schedule": "constant"}
    return StageConfig.model_validate(values | changes)


def newest(run: Path, stage: str = "vae") -> Path:
    found = find_checkpoint(run / stage)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["ddp", "ddp_multinode", "fsdp2", "zero2", "deepspeed_zero2"])
def test_configurations_are_what_accelerate_reads(name: str) -> None:
    config = ClusterConfig.from_yaml_file(yaml_file=str(CONFIGS / f"{name}.yaml"))
    assert config.mixed_precision == "no"
    sharding: Any = config.fsdp_config
    if name in ("fsdp2", "zero2"):
        assert sharding["fsdp_version"] == 2
        assert sharding["fsdp_transformer_layer_cls_to_wrap"].split(",") == list(WRAPPED)
        assert sharding["fsdp_reshard_after_forward"] is (name == "fsdp2")
    if name == "ddp_multinode":
        assert config.num_machines == 2
        assert config.num_processes == 16
