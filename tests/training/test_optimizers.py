"""Optimizers, schedules, averages and the ways to spend less memory: each computes what the plain way computes."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from torch import Tensor, nn

from anystory.training.data.stream import collate
from anystory.training.launch.devices import forward_pass, make_accelerator
from anystory.training.model.components import ModelFolder
from anystory.training.recipe import StageConfig
from anystory.training.stages import build_stage
from anystory.training.stages.common import NoiseSchedule, weighted_mse
from anystory.training.state.ema import NamedEMA
from anystory.training.state.optimizers import Masters, build_optimizer
from anystory.training.state.schedules import learning_rate
from anystory.training.state.trained_weights import TrainedWeights
from anystory.training.trainer import train

from .lines import LineStage
from .sdxl_base import recipe_on, write_base
from .test_loop import options

CPU = torch.device("cpu")


def config(**changes: Any) -> StageConfig:
    return StageConfig(**({"batch_size": 4, "learning_rate": 1e-2, "warmup_steps": 1, "steps": 3} | changes))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_base(tmp_path_factory.mktemp("base"))


# Schedules and weights of the loss.


def test_schedules() -> None:
    constant, cosine = (config(schedule=name, learning_rate=1.0) for name in ("constant", "cosine"))
    for fraction in (0.0, 0.3, 0.99):
        assert learning_rate(constant, 10, fraction) == 1.0
        assert learning_rate(cosine, 10, fraction) == pytest.approx(math.cos(math.pi * fraction / 2) ** 2)
    assert learning_rate(cosine, 10, 1.0) == pytest.approx(0)
    slow = config(schedule="cosine", learning_rate=1.0, warmup_steps=100)
    assert learning_rate(slow, 24, 0.5) == pytest.approx(0.25 * 0.5)


@pytest.mark.parametrize(
    ("prediction", "by_hand"),
    [
        # γ = 5: at SNR 9 the noise's weight is 5/9, the velocity's 5/10; below 5 they are 1 and SNR/(SNR + 1)
        ("epsilon", {9.0: 5 / 9, 5.0: 1.0, 0.25: 1.0}),
        ("v_prediction", {9.0: 5 / 10, 5.0: 5 / 6, 0.25: 0.25 / 1.25}),
    ],
)
def test_min_snr_weights_by_hand(prediction: str, by_hand: dict[float, float]) -> None:
    schedule = NoiseSchedule(EulerDiscreteScheduler(prediction_type=prediction))
    alphas = torch.tensor([snr / (1 + snr) for snr in by_hand], dtype=torch.float64)
    schedule.signal, schedule.noise = alphas.sqrt().float(), (1 - alphas).sqrt().float()
    found = schedule.min_snr_weight(torch.arange(len(by_hand)), 5.0)
    torch.testing.assert_close(found, torch.tensor(list(by_hand.values())))


def test_min_snr_weight_is_finite_where_nothing_is_left_of_the_picture() -> None:
    schedule = NoiseSchedule(EulerDiscreteScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True))
    assert schedule.min_snr_weight(torch.tensor([0, 999]), 5.0).isfinite().all()


def test_sample_weights_multiply_each_samples_error() -> None:
    prediction, target = torch.zeros(2, 1, 2, 2), torch.stack([torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), 2.0)])
    loss, plain = weighted_mse(prediction, target, torch.zeros(2, 4, 4), 0.0, torch.tensor([0.5, 0.25]))
    assert float(loss) == pytest.approx((0.5 * 1 + 0.25 * 4) / 2)
    assert float(plain) == pytest.approx((1 + 4) / 2)


# Optimizers and averages.


def test_eight_bits_without_bitsandbytes_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bitsandbytes", "bitsandbytes.optim"):
        monkeypatch.setitem(sys.modules, name, None)
    weights = {"w": nn.Parameter(torch.ones(2))}
    with pytest.raises(ValueError, match=r"pip install 'anystory\[8bit\]'"):
        build_optimizer(config(optimizer="adamw8bit"), weights)


def test_masters_and_eight_bits_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="masters 'cpu' needs optimizer 'adamw'"):
        config(optimizer="adamw8bit", masters="cpu")


def trained_for(steps: int, **changes: Any) -> tuple[LineStage, TrainedWeights]:
    stage = LineStage()
    trained = TrainedWeights(stage, config(**changes), make_accelerator(), torch.bfloat16)
    for step in range(steps):
        batch = collate([stage.fetch()(4 * step + i) for i in range(4)])
        with torch.autocast("cpu", torch.bfloat16, enabled=changes.get("masters") == "cpu"):
            stage(batch, torch.Generator())["loss"].backward()
        trained.clip()
        trained.step(step)
    return stage, trained


def test_averages_on_the_cpu_are_those_on_the_device_and_off_keeps_none() -> None:
    (_, device), (_, cpu), (stage, off) = (trained_for(4, ema=place) for place in ("device", "cpu", "off"))
    for name, value in device.ema.tensors.items():
        torch.testing.assert_close(cpu.ema.tensors[name], value)
    assert off.ema.tensors == {}
    before = stage.line.weight.detach().clone()
    with off.averaged():
        assert torch.equal(stage.line.weight, before)


def test_masters_learn_what_plain_weights_learn_and_the_device_gets_bf16() -> None:
    plain_stage, plain = trained_for(6)
    stage, masters = trained_for(6, masters="cpu")
    assert stage.line.weight.dtype == torch.bfloat16
    assert stage.line.weight.grad is None, "the device keeps no gradient"
    for name, value in plain.state.parameters.items():
        master = masters.state.parameters[name]
        assert master.dtype == torch.float32
        torch.testing.assert_close(master, value, rtol=0.05, atol=0.01)
        assert torch.equal(master.bfloat16(), dict(stage.named_parameters())[name])
    with masters.averaged():
        assert torch.equal(stage.line.weight, masters.ema.tensors["line.weight"].bfloat16())
    assert torch.equal(stage.line.weight, masters.state.parameters["line.weight"].bfloat16())
    assert plain_stage.line.weight.dtype == torch.float32


def test_gradients_of_a_steps_batches_add_up_in_main_memory() -> None:
    live = {"w": nn.Parameter(torch.tensor([1.0, 2.0]))}
    masters = Masters(live, torch.float32)
    for factor in (1.0, 3.0):
        (factor * live["w"].square()).sum().backward()
    assert masters.parameters["w"].grad is not None
    torch.testing.assert_close(masters.parameters["w"].grad, torch.tensor([8.0, 16.0]))


# The loop with these settings.


def run(tmp_path: Path, **changes: Any) -> tuple[dict[str, Tensor], int]:
    stage = LineStage()
    train(stage, config(**changes), options(tmp_path, precision="fp32"))
    return {name: value.detach().clone() for name, value in stage.named_parameters()}, len(stage.seen)


def test_accumulated_batches_learn_what_one_large_batch_learns(tmp_path: Path) -> None:
    large, calls = run(tmp_path / "large", batch_size=8)
    small, more_calls = run(tmp_path / "small", batch_size=2, global_batch=8)
    assert (calls, more_calls) == (3, 12)
    for name, value in large.items():
        torch.testing.assert_close(small[name], value)


@pytest.mark.parametrize("changes", [{"masters": "cpu"}, {"ema": "cpu"}, {"ema": "off"}, {"global_batch": 8}])
def test_a_resumed_run_equals_the_unbroken_one(tmp_path: Path, changes: dict[str, Any]) -> None:
    ends = []
    for place, budgets in (("broken", (2, 5)), ("unbroken", (5,))):
        for budget in budgets:
            stage, out = LineStage(), tmp_path / place
            settings = config(schedule="constant", **changes)
            train(stage, settings, options(out, resume=budget != budgets[0], steps=budget))
        ends.append([value.detach().clone() for value in stage.parameters()])
    for found, expected in zip(*ends, strict=True):
        assert torch.equal(found, expected)


def test_batches_that_do_not_add_up_are_told() -> None:
    with pytest.raises(ValueError, match="global_batch 6 is not a multiple of batch_size 4"):
        config(global_batch=6)
    assert config(batch_size=2, global_batch=16).accumulation(4) == 2
    with pytest.raises(ValueError, match="3 processes"):
        config(batch_size=2, global_batch=16).accumulation(3)


# Recomputing blocks.


def gradients(stage: Any, count: int = 2) -> dict[str, Tensor]:
    for parameter in stage.parameters():
        parameter.requires_grad_(False)
    for parameter in stage.trained_parameters().values():
        parameter.requires_grad_(True).grad = None
    batch = collate([stage.fetch()(i) for i in range(count)])
    with forward_pass(CPU, "fp32"):
        losses = stage(batch, torch.Generator().manual_seed(3))
    losses["loss"].backward()
    found = {name: p.grad.clone() for name, p in stage.trained_parameters().items() if p.grad is not None}
    return found | {"loss": losses["loss"].detach()}


def kept_bytes(call: Callable[[], Any]) -> int:
    """Bytes that autograd's saved tensors hold, each storage once."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        call()
    return sum(storages.values())


@pytest.mark.parametrize("name", ["encoder", "router"])
def test_recomputed_blocks_give_the_same_gradients(base: Path, tmp_path: Path, name: Any) -> None:
    folder = ModelFolder(tmp_path, recipe_on(base))
    if name == "router":
        folder.save("adapter", folder.adapter(folder.load("unet")))
    stage: Any = build_stage(name, folder)
    plain = gradients(stage)
    batch = collate([stage.fetch()(i) for i in range(2)])
    kept = kept_bytes(lambda: stage(batch, torch.Generator()))
    stage.recompute_blocks()
    assert kept_bytes(lambda: stage(batch, torch.Generator())) < kept / 2
    found = gradients(stage)
    assert found.keys() == plain.keys()
    for key, value in plain.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-6, msg=lambda text, k=key: f"{k}: {text}")


def test_a_recipe_turns_recomputing_on(base: Path, tmp_path: Path) -> None:
    recipe = recipe_on(base)
    settings = recipe.stages["encoder"].model_copy(update={"gradient_checkpointing": True})
    recipe = recipe.model_copy(update={"stages": {"encoder": settings}})
    stage: Any = build_stage("encoder", ModelFolder(tmp_path, recipe))
    for net in (stage.unet, stage.adapter.reference_net.unet):
        blocks = [module for module in net.modules() if hasattr(module, "gradient_checkpointing")]
        assert blocks
        assert all(block.gradient_checkpointing for block in blocks)


def test_ema_update_by_hand() -> None:
    weight = {"w": nn.Parameter(torch.zeros(1))}
    ema = NamedEMA(weight, 0.9, "cpu")
    ema.update(0)
    weight["w"].data.fill_(1.0)
    ema.update(1)  # warm-up: 1 − (1 + 1)^(−2/3) ≈ 0.37 is less than 0.9
    assert float(ema.tensors["w"]) == pytest.approx(2 ** (-2 / 3))
