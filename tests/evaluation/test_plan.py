"""`anystory train plan`: what is counted on the meta device is what a real batch needs."""

from __future__ import annotations

import json
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from anystory.cli import app
from anystory.evaluation.plan.estimate import Counted, count, estimate
from anystory.evaluation.plan.memory import GIB, Load, Machines, Memory, advice
from anystory.evaluation.plan.meta import meta_stage
from anystory.evaluation.plan.meter import LikeAGpu, Meter
from anystory.training.data.stream import collate
from anystory.training.launch.devices import forward_pass, quick_attention
from anystory.training.model.components import ModelFolder
from anystory.training.recipe import Recipe, StageConfig
from anystory.training.stages import build_stage
from training.sdxl_base import SIZES, recipe_on, write_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_base(tmp_path_factory.mktemp("base"))


def recipe_with(base: Path, **changes: Any) -> Recipe:
    recipe = recipe_on(base)
    stages = {
        name: StageConfig.model_validate(config.model_dump() | {"options": {"max_subjects": 1}} | changes)
        for name, config in recipe.stages.items()
    }
    return recipe.model_copy(update={"stages": stages})


def test_the_meter_follows_storages_to_their_end() -> None:
    with Meter() as meter:
        a = torch.ones(1000)  # 4000 bytes
        b = a + 1
        c = b[10:]  # a view: the same storage
        assert meter.live == 8000
        del a
        assert meter.live == 4000
        del b
        assert meter.live == 4000
        del c
        assert meter.live == 0
        assert meter.peak == 8000
        torch.ones(3, 4) @ torch.ones(4, 5)
    assert meter.flops == 2 * 3 * 4 * 5


@pytest.mark.parametrize("name", ["encoder", "router"])
@pytest.mark.parametrize("recomputed", [False, True])
def test_counted_is_what_a_real_batch_needs(base: Path, tmp_path: Path, name: Any, recomputed: bool) -> None:
    recipe = recipe_with(base, gradient_checkpointing=recomputed)
    counted = count(recipe, name, batch_size=2, bf16=False)
    folder = ModelFolder(tmp_path, recipe)
    folder.save("adapter", folder.adapter(folder.load("unet")))
    stage: Any = build_stage(name, folder)
    stage.requires_grad_(False)
    for parameter in stage.trained_parameters().values():
        parameter.requires_grad_(True)
        parameter.grad = torch.zeros_like(parameter)
    batch = collate([stage.fetch()(i) for i in range(2)])
    # Blocks are run again with the attention that training takes on a CPU; the first run must take it, too.
    attention = quick_attention(torch.device("cpu")) if recomputed else nullcontext()
    with Meter() as meter, attention:
        loss = stage(batch, torch.Generator().manual_seed(0))["loss"]
        kept = meter.live
        torch.autograd.backward(loss)
    # A CPU's attention and its temporaries differ from the kernels that are counted.
    assert counted.kept_bytes == pytest.approx(kept, rel=0.15)
    assert counted.peak_bytes == pytest.approx(meter.peak, rel=0.2)
    with Meter() as meter, forward_pass(torch.device("cpu"), "fp32"):  # attention as two products, which are counted
        torch.autograd.backward(stage(batch, torch.Generator().manual_seed(0))["loss"])
    assert counted.flops == pytest.approx(meter.flops, rel=0.1)


@cache
def plain_and_again(base: Path, name: Any) -> tuple[Counted, Counted]:
    """A stage's step as it is, and with blocks recomputed."""
    plain, again = (
        count(recipe_with(base, gradient_checkpointing=choice), name, batch_size=2) for choice in (False, True)
    )
    return plain, again


def test_recomputing_keeps_less_and_computes_more(base: Path) -> None:
    plain, again = plain_and_again(base, "encoder")
    assert again.kept_bytes < 0.6 * plain.kept_bytes
    assert again.peak_bytes < plain.peak_bytes
    assert again.forward_flops == plain.forward_flops
    assert 1.1 < again.flops / plain.flops < 1.6


@pytest.mark.parametrize("name", ["encoder", "router"])
def test_recomputed_blocks_are_forgotten_one_by_one(base: Path, name: Any) -> None:
    """The backward pass holds one block's insides at a time: a reference to any would keep the lot."""
    plain, again = plain_and_again(base, name)
    assert again.peak_bytes < 0.7 * plain.peak_bytes


def test_shared_projections_are_counted_as_the_fewer_parameters_that_they_are(base: Path) -> None:
    weights, flops, pairs = {}, {}, 0
    for kind in ("shared", "separate"):
        recipe = recipe_with(base)
        recipe = recipe.model_copy(update={"adapter": recipe.adapter.model_copy(update={"map_projections": kind})})
        plan = estimate(recipe, "router", Machines(), batch_size=1, samples=100)
        weights[kind], flops[kind] = plan.trained_parameters, plan.counted.flops
        adapter = meta_stage(recipe, "router", LikeAGpu(False)).adapter
        assert weights[kind] == sum(parameter.numel() for parameter in adapter.stage_parameters("router").values())
        pairs = sum((layer.dim + 1 + SIZES["routing_dim"]) * SIZES["router_dim"] for layer in adapter.layers)
    assert weights["separate"] - weights["shared"] == pairs
    assert flops["shared"] < flops["separate"]


def test_flops_are_torchs() -> None:
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with FlopCounterMode(display=False) as expected:
        net(torch.ones(3, 8)).sum().backward()
    with Meter() as meter:
        net(torch.ones(3, 8)).sum().backward()
    assert meter.flops == expected.get_total_flops()


def test_memory_by_hand() -> None:
    config = StageConfig(batch_size=1, learning_rate=1e-4)

    def memory(gpus: int, strategy: Any = "ddp", **settings: Any) -> Memory:
        machines = Machines(gpus=gpus, strategy=strategy)
        load = Load(config=config, trained=1000, frozen_bytes=500, activations=77, machines=machines)
        return load.changed(**settings).memory()

    whole = memory(4)
    assert (whole.weights, whole.gradients, whole.optimizer, whole.average) == (4000, 4000, 8000, 4000)
    assert whole.total == 500 + 20_000 + 77 + whole.reserve
    cut = memory(4, "fsdp2")
    assert (cut.weights, cut.gradients, cut.optimizer, cut.average) == (1000, 1000, 2000, 1000)
    eight = memory(1, optimizer="adamw8bit")
    assert eight.optimizer == 2031, "a byte for each moment, and four for each 256 of them"
    masters = memory(1, masters="cpu")
    assert (masters.weights, masters.gradients, masters.optimizer, masters.average) == (2000, 0, 0, 0)
    assert masters.main_memory == 20_000


def test_an_average_that_is_off_stays_off() -> None:
    """Moving it into main memory would free nothing."""
    config = StageConfig(batch_size=1, learning_rate=1e-4, ema="off")
    load = Load(config=config, trained=10**9, frozen_bytes=0, activations=0, machines=Machines(memory_gb=1))
    assert not any("ema" in said for said in advice(load))
    assert any("ema" in said for said in advice(load.changed(ema="device")))


def test_a_plan_says_what_to_change_until_it_fits(base: Path) -> None:
    recipe = recipe_with(base, global_batch=16)
    fitting = estimate(recipe, "encoder", Machines(gpus=2), samples=160)
    assert fitting.fits
    assert fitting.advice == []
    assert (fitting.accumulation, fitting.steps) == (4, 10)
    by_hand = fitting.counted.flops / 2 * 160 / (2 * 312e12 * 0.35) / 3600
    assert fitting.hours == pytest.approx(by_hand)
    needed = fitting.memory.total / GIB
    tight = estimate(recipe, "encoder", Machines(gpus=2, memory_gb=(needed - 0.001) / 0.97), samples=160)
    assert not tight.fits
    assert tight.advice[0].startswith("gradient_checkpointing")


def test_eight_bits_are_for_weights_that_are_whole(base: Path) -> None:
    with pytest.raises(ValueError, match="'adamw8bit' knows no weights in pieces: say --strategy ddp"):
        estimate(recipe_with(base, optimizer="adamw8bit"), "encoder", Machines(gpus=2, strategy="fsdp2"), samples=16)
    plain, eight = (
        estimate(recipe_with(base, optimizer=name), "encoder", Machines(gpus=2, memory_gb=0.001), samples=16)
        for name in ("adamw", "adamw8bit")
    )
    assert any("fsdp2" in said for said in plain.advice)
    assert not any("adamw8bit" in said for said in plain.advice), "it would follow fsdp2"
    assert not any("fsdp2" in said for said in eight.advice)
    assert eight.checkpoint_bytes / plain.checkpoint_bytes == pytest.approx((8 + 2 + 8 / 256) / 16)


def test_the_command_prints_and_gives_json(base: Path, tmp_path: Path) -> None:
    import yaml

    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(recipe_with(base).model_dump(mode="json")), encoding="utf-8")
    shown = CliRunner().invoke(app, ["train", "plan", str(file), "--stage", "encoder", "--gpus", "2"])
    assert shown.exit_code == 0, shown.output
    assert "it fits" in shown.output
    given = CliRunner().invoke(app, ["train", "plan", str(file), "--stage", "encoder", "--json"])
    (plan,) = json.loads(given.stdout)
    assert plan["stage"] == "encoder"
    assert plan["memory"]["total"] > plan["memory"]["activations"] > 0
    refused = CliRunner().invoke(app, ["train", "plan", str(file), "--strategy", "magic"])
    assert refused.exit_code == 2
    assert "--strategy is one of ddp, fsdp2" in refused.output
    refused = CliRunner().invoke(app, ["train", "plan", str(file), "--strategy", "zero2"])
    assert refused.exit_code == 2
    assert "zero2.yaml is FSDP2 that keeps the weights together" in " ".join(refused.output.split())
