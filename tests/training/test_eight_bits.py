"""AdamW with moments in 8 bits: trains, is stored and restored exactly, and stays near torch's; on a CPU.

bitsandbytes has kernels of its own for the CPU; those for GPUs are other code.
"""

from __future__ import annotations

import copy
import math
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from anystory.training.failures import NotFinite
from anystory.training.launch.devices import make_accelerator
from anystory.training.launch.options import RunOptions
from anystory.training.launch.runner import run_stages
from anystory.training.model.components import ModelFolder
from anystory.training.non_finite import NonFiniteGuard
from anystory.training.recipe import Recipe, StageConfig
from anystory.training.stages import build_stage
from anystory.training.state import trained_weights
from anystory.training.state.checkpoint import load_checkpoint
from anystory.training.state.checkpoints import find_checkpoint
from anystory.training.state.optimizer_state import OptimizerState
from anystory.training.state.optimizers import build_optimizer, keeps_channels_last
from anystory.training.state.train_state import TrainState
from anystory.training.state.trained_weights import TrainedWeights
from anystory.training.trainer import train

from .conftest import TINY
from .lines import LineStage
from .test_loop import options

needs_library = pytest.mark.usefixtures("library")

STEPS = 4
LARGE = 4096
"""Tensors of so many numbers have moments in 8 bits; smaller ones in 32."""


@pytest.fixture(scope="module")
def library() -> Any:
    return pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install 'anystory[8bit]'")


def settings(**changes: Any) -> StageConfig:
    plain = {"batch_size": 4, "learning_rate": 1e-3, "weight_decay": 0.01, "optimizer": "adamw8bit"}
    return StageConfig.model_validate(plain | changes)


def eight_bit_recipe(**changes: Any) -> Recipe:
    """The tiny recipe; `vae` writes a checkpoint after every step."""
    values = copy.deepcopy(TINY)
    values["stages"]["vae"] |= {
        "batch_size": 2,
        "steps": STEPS,
        "checkpoint_minutes": 1e-9,
        "validate_every": 0,
        "optimizer": "adamw8bit",
    } | changes
    return Recipe.model_validate(values)


def run(out: Path, recipe: Recipe, **changes: Any) -> dict[str, dict[str, Tensor]]:
    """Train `vae` in `out`, going on where it is; the last checkpoint's tensors."""
    run_stages(("vae",), recipe, options(out, **({"resume": True} | changes)), {})
    return tensors(out)


def tensors(out: Path) -> dict[str, dict[str, Tensor]]:
    found = find_checkpoint(out / "vae")
    assert found is not None
    return {part: load_file(found / f"{part}.safetensors") for part in ("model", "ema", "optimizer")}


@pytest.fixture(scope="module")
def unbroken(library: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of STEPS steps in 8 bits."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("unbroken")
    run(out, eight_bit_recipe())
    return out


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in 32."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("plain")
    run(out, eight_bit_recipe(optimizer="adamw"))
    return out


def test_a_run_that_was_killed_goes_on_with_the_same_bits(unbroken: Path, tmp_path: Path) -> None:
    recipe, out = eight_bit_recipe(), tmp_path / "killed"
    process = os.fork()
    if process == 0:  # dies in its third step, with two checkpoints behind it
        calls = iter(range(3))
        step = TrainedWeights.step

        def deadly(self: TrainedWeights, number: int) -> None:
            if next(calls) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            step(self, number)

        TrainedWeights.step = deadly
        try:
            run_stages(("vae",), recipe, RunOptions(out=out, model=out / "model", workers=0, quiet=True), {})
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    killed_at = find_checkpoint(out / "vae")
    assert killed_at is not None
    assert killed_at.name == "step-00000002"
    found = run(out, recipe)
    for part, expected in tensors(unbroken).items():
        assert found[part].keys() == expected.keys()
        for name, value in expected.items():
            assert found[part][name].dtype == value.dtype, name
            assert torch.equal(found[part][name], value), (part, name)


def test_a_checkpoint_holds_large_tensors_moments_in_8_bits_and_small_ones_in_32(unbroken: Path) -> None:
    found = tensors(unbroken)
    large = [name for name, value in found["model"].items() if value.numel() >= LARGE]
    assert 0 < len(large) < len(found["model"])
    for name, value in found["model"].items():
        own = {k.removeprefix(f"{name}."): v for k, v in found["optimizer"].items() if k.rpartition(".")[0] == name}
        assert own["state1"].shape == own["state2"].shape == value.shape
        assert int(own["step"]) == STEPS
        if name not in large:
            assert own.keys() == {"step", "state1", "state2"}
            assert own["state1"].dtype == own["state2"].dtype == torch.float32
            continue
        blocks = math.ceil(value.numel() / 256)
        assert own["state1"].dtype == own["state2"].dtype == torch.uint8
        for moment in "12":
            assert own[f"absmax{moment}"].shape == (blocks,)
            assert own[f"absmax{moment}"].dtype == own[f"qmap{moment}"].dtype == torch.float32
            assert float(own[f"absmax{moment}"].abs().max()) > 0
    stored = sum(found["optimizer"][f"{name}.state{moment}"].nbytes for name in large for moment in "12")
    assert stored == 2 * sum(found["model"][name].numel() for name in large)


def steps(optimizer: str, count: int) -> list[Tensor]:
    """The weights after each step of least squares in 8192 numbers, and of 64 numbers beside them."""
    draw = torch.Generator().manual_seed(0)
    weights = {n: nn.Parameter(torch.randn(s, generator=draw) / 8) for n, s in (("w", (64, 128)), ("b", (64,)))}
    chosen = build_optimizer(settings(optimizer=optimizer), weights)
    seen = []
    for _ in range(count):
        x, y = torch.randn(32, 128, generator=draw), torch.randn(32, 64, generator=draw)
        (x @ weights["w"].T + weights["b"] - y).square().mean().backward()
        chosen.step()
        chosen.zero_grad()
        seen.append(torch.cat([value.detach().flatten().clone() for value in weights.values()]))
    return seen


@needs_library
def test_the_first_steps_stay_near_those_in_32_bits() -> None:
    """The first step is the same: its moments are rounded after it. Then the way is off by a few hundredths."""
    plain, quantised = steps("adamw", 20), steps("adamw8bit", 20)
    torch.testing.assert_close(quantised[0], plain[0], rtol=0, atol=1e-7)
    start = plain[0]
    for after in (4, 9, 19):
        way = (plain[after] - start).norm()
        assert float((quantised[after] - plain[after]).norm() / way) < 0.05, after
        assert float((quantised[after] - plain[after])[-64:].abs().max()) < 1e-5, "small tensors keep 32 bits"
    assert not torch.equal(quantised[-1], plain[-1])


@needs_library
def test_moments_in_pages_are_the_same() -> None:
    with pytest.warns(UserWarning, match="not supported on CPU"):  # they spill over from a GPU only
        paged = steps("paged_adamw8bit", 3)
    assert all(map(torch.equal, paged, steps("adamw8bit", 3)))


def test_a_stage_learns_about_what_it_learns_with_32_bits(unbroken: Path, plain: Path) -> None:
    begin = build_stage("vae", ModelFolder(unbroken / "none", eight_bit_recipe())).trained_parameters()
    ends = [tensors(out)["model"] for out in (plain, unbroken)]
    ways = [torch.cat([(end[name] - begin[name]).flatten() for name in begin]).detach() for end in ends]
    assert 0 < float((ways[1] - ways[0]).norm() / ways[0].norm()) < 0.05


def test_another_optimizers_checkpoint_is_refused(unbroken: Path, plain: Path) -> None:
    for out, name in ((unbroken, "adamw"), (plain, "adamw8bit")):
        with pytest.raises(ValueError, match="was written with another optimizer: resume with the recipe"):
            run(out, eight_bit_recipe(optimizer=name), steps=STEPS + 1)


def test_moments_of_another_shape_are_refused(unbroken: Path, tmp_path: Path) -> None:
    found = find_checkpoint(unbroken / "vae")
    assert found is not None
    checkpoint = shutil.copytree(found, tmp_path / found.name)
    moments = load_file(checkpoint / "optimizer.safetensors")
    name = next(key for key, value in moments.items() if key.endswith(".state1") and value.ndim == 1)
    save_file(moments | {name: moments[name].repeat(2)}, checkpoint / "optimizer.safetensors")
    weights = {name: nn.Parameter(value) for name, value in tensors(unbroken)["model"].items()}
    state = TrainState(weights, tensors(unbroken)["ema"], OptimizerState(build_optimizer(settings(), weights), weights))
    with pytest.raises(ValueError, match=r"does not fit this model, first \['" + name.removesuffix(".state1")):
        load_checkpoint(checkpoint, state)


# Losses that are not numbers.


@needs_library
def test_a_loss_that_is_no_number_stops_the_run_before_it_is_learned(tmp_path: Path) -> None:
    config = eight_bit_recipe(learning_rate=1e30, warmup_steps=1).stages["vae"]
    with pytest.raises(NotFinite, match="stopped at step 2: its loss is nan"):
        train(build_stage("vae", ModelFolder(tmp_path / "model", eight_bit_recipe())), config, options(tmp_path))
    found = tensors(tmp_path)
    assert all(value.isfinite().all() for value in found["model"].values())
    assert {int(v) for k, v in found["optimizer"].items() if k.endswith(".step")} == {1}
    assert (tmp_path / "vae" / "nan-step-2" / "model.safetensors").is_file(), "the weights are those of the step"


@needs_library
def test_with_late_answers_the_weights_are_known_to_be_spoilt() -> None:
    """As on a GPU, where 8-bit optimizers cannot be held back."""
    weights = {"w": nn.Parameter(torch.ones(64, 128))}
    optimizer = build_optimizer(settings(), weights)
    guard = NonFiniteGuard(optimizer, torch.device("cpu"), delayed=True)
    found = []
    for step, value in enumerate((1.0, math.nan, 1.0), start=1):
        guard.begin(step)
        guard.record({}, step, {"loss": torch.tensor(value)})
        weights["w"].grad = torch.full((64, 128), value)
        found.append(guard.check(torch.tensor(value)))
        optimizer.step()
    assert found[:2] == [None, None]
    assert found[2] is not None
    assert (found[2].step, found[2].exact) == (2, False)
    assert bool(weights["w"].isnan().any())


# What does not go together.


def test_sharded_weights_are_refused(monkeypatch: pytest.MonkeyPatch, library: Any) -> None:
    monkeypatch.setattr(trained_weights, "is_sharded", lambda accelerator: True)
    with pytest.raises(ValueError, match=r"FSDP2 shards .* 'adamw' only, not of 'adamw8bit'.*ddp\.yaml"):
        TrainedWeights(LineStage(), settings(), make_accelerator(), torch.float32)


def test_it_lays_weights_out_itself() -> None:
    assert keeps_channels_last(settings(optimizer="adamw"), None, default=True)
    assert not keeps_channels_last(settings(optimizer="adamw"), False, default=True)
    assert not keeps_channels_last(settings(), None, default=True)
    with pytest.raises(ValueError, match="--channels-last does not go with optimizer 'adamw8bit'"):
        keeps_channels_last(settings(), True, default=False)
