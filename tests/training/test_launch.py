"""Several processes: each sample once, gradients of all, weights in pieces; the files of configs/accelerate."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.commands.config.config_args import ClusterConfig
from PIL import Image
from safetensors.torch import load_file

from anystory.data.shards.writer import ShardWriter
from anystory.data.stream.training_set import TrainingSet
from anystory.models.adapter import SubjectAdapter
from anystory.training.bad_step import load_bad_step
from anystory.training.data.stream import StreamSampler, stream_batches
from anystory.training.model.components import ModelFolder
from anystory.training.recipe import StageConfig, StageName
from anystory.training.runlog import read_log
from anystory.training.stages import build_stage
from anystory.training.state.checkpoints import find_checkpoint
from anystory.training.state.sharding import WRAPPED
from anystory.training.trainer import train
from anystory.training.validation import held_out_batches
from data.samples import make_sample

from .lines import LineStage
from .sdxl_base import recipe_on, write_base
from .test_loop import options
from .together import free_port, run_together

CONFIGS = Path(__file__).parents[2] / "configs" / "accelerate"


SAMPLES = 11
"""In the shards: no multiple of anything, so that a batch lies across two epochs."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("base")
    with ShardWriter(folder / "shards", "set", max_samples=3) as writer:
        for number in range(SAMPLES):
            record, files = make_sample(f"k{number}", subjects=1 + number % 2, caption=f"k{number}")
            writer.add(record, files.__getitem__)
    return write_base(folder)


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
}


QUICK = ("ddp", "fsdp2")
"""One with whole weights, one with pieces: the others take as long and touch little else."""


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in KINDS]
)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """The runs under DDP."""
    return launch("ddp", tmp_path_factory.mktemp("two"), base)


@pytest.fixture(scope="module")
def done(kind: str, plain: Path, tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """The runs of `launched.py`."""
    return plain if kind == "ddp" else launch(kind, tmp_path_factory.mktemp("two"), base)


def launch(kind: str, out: Path, base: Path) -> Path:
    """Two processes under gloo, started as torchrun would."""
    train(LineStage(), settings(batch_size=2, global_batch=16, steps=2), options(out / "crossed"))
    shared = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
        **KINDS[kind],
    }
    command = [sys.executable, "-m", "training.launched", str(out), str(base)]
    run_together([command] * 2, [shared | {"RANK": rank, "LOCAL_RANK": rank} for rank in "01"])
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
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=f"{part}: {name}")


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


def test_the_runs_were_what_they_are_called(kind: str, done: Path) -> None:
    """Accelerate falls back to DDP without a word where it cannot do what it is asked for."""
    found = json.loads((done / "stages" / "ran-as-0.json").read_text())
    assert found["sharded"] == (kind in ("fsdp2", "zero2"))
    assert found["type"] == ("MULTI_CPU" if kind == "ddp" else "FSDP")


@pytest.mark.parametrize("stage", ["encoder", "router"])
def test_metrics_and_pictures_are_those_of_one_process(done: Path, base: Path, stage: StageName) -> None:
    """The same weights, whole, in one process."""
    log = read_log(done / "stages" / stage / "log.jsonl")
    assert [record["step"] for record in log if "val_loss" in record] == [1, 2]
    alone = build_stage(stage, ModelFolder(done / "stages" / "model", recipe_on(base)))
    metrics = alone.validate(held_out_batches(alone.held_out(), 2, 1))
    found = next(record for record in reversed(log) if "val_loss" in record)
    for name, value in metrics.items():
        assert found[f"val_{name}"] == pytest.approx(value, rel=1e-4), name
    pictures = sorted((done / "stages" / stage / "samples").glob("*.png"))
    assert [picture.stem for picture in pictures] == ["0000002"]
    drawn, expected = np.asarray(Image.open(pictures[-1])).astype(int), np.asarray(alone.sample_picture()).astype(int)
    assert drawn.shape == expected.shape
    assert np.abs(drawn - expected).max() <= 2


@pytest.mark.parametrize("stage", ["encoder", "router"])
def test_stages_learn_what_they_learn_under_ddp(kind: str, done: Path, plain: Path, stage: StageName) -> None:
    """Also where validation and pictures have put weights together between two steps."""
    found, expected = (read_log(run / "stages" / stage / "log.jsonl") for run in (done, plain))
    for ours, theirs in zip(found, expected, strict=True):
        for name, value in theirs.items():
            if name != "seconds":
                assert ours[name] == pytest.approx(value, rel=1e-3, abs=1e-5), (theirs["step"], name)
    weights, others = (load_file(newest(run / "stages", stage) / "model.safetensors") for run in (done, plain))
    assert weights.keys() == others.keys()
    for name, value in others.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("late", [False, True])
def test_a_loss_that_is_no_number_in_one_process_stops_all(done: Path, late: bool) -> None:
    out = done / f"poisoned-{late}"
    for rank in range(2):
        said = (out / f"said-{rank}.txt").read_text()
        assert "stopped at step 2: the loss is not a number in process 1" in said
        assert f"The batch is in {out / 'vae' / 'nan-step-2-rank-1'};" in said
    bad = load_bad_step(out / "vae" / "nan-step-2-rank-1")
    assert math.isnan(bad.losses[0]["loss"])
    assert math.isfinite(bad.grad_norm)
    assert bad.batches[0]["index"].tolist() == [6, 7], "the second step's batch of the second process"
    assert bad.parameters is not None
    assert bad.parameters["line.weight"].shape == (2, 4), "whole"
    alone = LineStage()
    train(alone, settings(batch_size=4, steps=1), options(out / "alone"))
    torch.testing.assert_close(bad.parameters["line.weight"], alone.line.weight.detach())
    assert find_checkpoint(out / "vae") is None, "none is written of what was spoilt"


def test_an_epoch_of_shards_comes_once_in_two_processes_with_two_loaders_each(done: Path, base: Path) -> None:
    data = TrainingSet(base.parent / "shards", resolution=16, reference_size=16, max_subjects=2)
    assert len(data) == SAMPLES
    steps = zip(
        *(json.loads((done / "shards" / f"captions-{rank}.json").read_text()) for rank in range(2)), strict=True
    )
    batches = [(rank, caption) for step in steps for rank, batch in enumerate(step) for caption in batch]
    assert [caption for _, caption in batches] == [data(p)["caption"] for p in range(len(batches))]
    epoch = batches[:SAMPLES]
    shares = [{caption for rank, caption in epoch if rank == which} for which in range(2)]
    assert not shares[0] & shares[1]
    assert sorted(caption for _, caption in epoch) == sorted(f"k{number}" for number in range(SAMPLES))
    one = stream_batches(data, start=0, batch_size=4, workers=1)
    alone = [caption for _ in range(3) for caption in next(one)["caption"]]
    assert alone == [caption for _, caption in batches]


def settings(**changes: Any) -> StageConfig:
    values = {"batch_size": 4, "learning_rate": 1e-2, "warmup_steps": 1, "steps": 3, "schedule": "constant"}
    return StageConfig.model_validate(values | changes)


def newest(run: Path, stage: str = "vae") -> Path:
    found = find_checkpoint(run / stage)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["ddp", "ddp_multinode", "fsdp2", "zero2"])
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
