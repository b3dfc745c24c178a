"""Precision, attention, layout and compilation: quick settings change the speed, not what is computed or written."""

from __future__ import annotations

import shutil
import weakref
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType
from diffusers.models.resnet import ResnetBlock2D
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from anystory.precision import bf16_is_native
from anystory.training.data.stream import collate
from anystory.training.launch import devices
from anystory.training.launch.devices import (
    PATIENCE,
    compile_blocks,
    compiled_shapes,
    follow_layout,
    forward_pass,
    make_accelerator,
    set_layout,
    uncompiled,
)
from anystory.training.launch.runner import run_stages
from anystory.training.model.components import ModelFolder
from anystory.training.recipe import Recipe, StageName
from anystory.training.stages import build_stage
from anystory.training.stages.stage import Stage
from anystory.training.trainer import train

from .test_loop import options

CPU = torch.device("cpu")


def test_settings_are_given_back_also_after_an_error() -> None:
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    with pytest.raises(RuntimeError, match="stop"), forward_pass(CPU, "bf16"):
        assert torch.is_autocast_enabled("cpu")
        assert not torch.backends.cuda.flash_sdp_enabled()
        raise RuntimeError("stop")
    assert torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed() == before
    assert torch.backends.cuda.flash_sdp_enabled()
    assert not torch.is_autocast_enabled("cpu")


def test_no_copy_of_a_weight_outlives_its_use() -> None:
    """Where blocks are recomputed nothing else keeps them, and 2.6 B trained parameters are 5 GB in bf16."""
    layer, copies = nn.Linear(4, 4), []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            found = func(*args, **(kwargs or {}))
            if func is torch.ops.aten._to_copy.default and args[0].shape == (4, 4):
                copies.append(weakref.ref(found))
            return found

    with forward_pass(CPU, "bf16"), torch.no_grad(), Watch():
        layer(torch.ones(1, 4))
        layer(torch.ones(1, 4))
        assert len(copies) == 2
        assert not any(copy() is not None for copy in copies)


def test_deepspeed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ValueError, match="DeepSpeed is not supported, FSDP2 does the same: use configs/accelerate"):
        make_accelerator()


def test_another_way_than_fsdp_is_refused_where_fsdp_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = SimpleNamespace(distributed_type=DistributedType.MULTI_CPU, num_processes=2)
    monkeypatch.setattr(devices, "Accelerator", lambda **_: chosen)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="FSDP was asked for and accelerate chose MULTI_CPU"):
        make_accelerator()


def test_processes_wait_longer_than_a_checkpoint_takes() -> None:
    told = make_accelerator().init_handler
    assert told is not None
    assert told.timeout == PATIENCE
    assert timedelta(hours=1) < PATIENCE


def test_auto_follows_the_processor() -> None:
    with forward_pass(CPU, "auto"):
        assert torch.is_autocast_enabled("cpu") == bf16_is_native(CPU)


@pytest.mark.parametrize("name", ["base", "encoder", "router"])
def test_bf16_losses_are_those_of_fp32_up_to_rounding(trained: tuple[Path, Recipe], name: str) -> None:
    out, recipe = trained
    stage = build_stage(name, ModelFolder(out / "model", recipe))  # pyright: ignore[reportArgumentType]
    batch = collate([stage.fetch()(i) for i in range(2)])
    found = {}
    for precision in ("fp32", "bf16"):
        with torch.no_grad(), forward_pass(CPU, precision):
            found[precision] = stage(batch, torch.Generator().manual_seed(1))
    for key, value in found["fp32"].items():
        assert value.dtype == found["bf16"][key].dtype == torch.float32
        assert found["bf16"][key] == pytest.approx(float(value), rel=0.03)
    assert not torch.equal(found["fp32"]["loss"], found["bf16"]["loss"]), "bf16 changed nothing: was it on?"


def test_a_bf16_run_keeps_fp32_weights(trained: tuple[Path, Recipe], tmp_path: Path) -> None:
    out, recipe = trained
    shutil.copytree(out / "model", tmp_path / "model")
    run_stages(("encoder",), recipe, options(tmp_path, precision="bf16"), {})
    adapter = ModelFolder(tmp_path / "model", recipe).load("adapter")
    assert {p.dtype for p in adapter.parameters()} == {torch.float32}
    assert all(bool(p.isfinite().all()) for p in adapter.parameters())


def losses_and_gradients(stage: Stage) -> dict[str, Tensor]:
    """Everything one step computes: losses, and the gradient of every trained parameter that has one."""
    parameters = stage.trained_parameters()
    batch = collate([stage.fetch()(i) for i in range(2)])
    with forward_pass(CPU, "fp32"):
        losses = stage(batch, torch.Generator().manual_seed(1))
    losses["loss"].backward()
    found = {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}
    stage.zero_grad(set_to_none=True)
    return found | {name: value.detach() for name, value in losses.items()}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("name", ["vae", "base", "encoder", "router"])
def test_channels_last_computes_the_same(trained: tuple[Path, Recipe], name: StageName) -> None:
    out, recipe = trained
    stage = build_stage(name, ModelFolder(out / "model", recipe))
    before, names = losses_and_gradients(stage), list(stage.state_dict())
    parameters = [id(p) for p in stage.parameters()]
    set_layout(stage, CPU, channels_last=True)
    assert any(not p.is_contiguous() for p in stage.parameters()), "nothing was laid out anew"
    assert [id(p) for p in stage.parameters()] == parameters, "an optimizer would hold others"
    assert list(stage.state_dict()) == names
    assert_close(losses_and_gradients(stage), before)
    set_layout(stage, CPU, channels_last=False)
    assert all(p.is_contiguous() for p in stage.parameters())


def test_a_resumed_channels_last_run_equals_the_plain_one(recipe: Recipe, tmp_path: Path) -> None:
    ends = {}
    config = recipe.stages["vae"].model_copy(update={"decay_fraction": 0.0})
    for channels_last in (False, True):
        folder = tmp_path / str(channels_last)
        for budget in (2, 4):
            stage = build_stage("vae", ModelFolder(folder / "model", recipe))
            train(stage, config, options(folder, resume=budget == 4, steps=budget, channels_last=channels_last))
        ends[channels_last] = [
            load_file(folder / part)
            for part in (
                "vae/checkpoints/step-00000004/model.safetensors",
                "model/vae/diffusion_pytorch_model.safetensors",
            )
        ]
    for plain, last in zip(ends[False], ends[True], strict=True):
        assert_close(last, plain)


def test_moments_take_the_layout_of_their_parameters() -> None:
    convolution = nn.Conv2d(3, 4, 3)
    set_layout(convolution, CPU, channels_last=True)
    optimizer = torch.optim.AdamW(convolution.parameters(), fused=True)
    convolution(torch.ones(1, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    contiguous = optimizer.state[convolution.weight]["exp_avg"].contiguous()
    optimizer.state[convolution.weight]["exp_avg"] = contiguous
    follow_layout(optimizer)
    followed = optimizer.state[convolution.weight]["exp_avg"]
    assert followed.stride() == convolution.weight.stride() != contiguous.stride()
    assert torch.equal(followed, contiguous)


# Tracing alone shows that every block is captured and computes the same. Generating code for all of them takes minutes
# on a CPU; `test_a_compiled_block_computes_the_same` does it for one.
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("base", "encoder", "router")]


@pytest.mark.parametrize("name", ["vae", "clip", *SLOW])
def test_traced_blocks_compute_the_same(trained: tuple[Path, Recipe], name: StageName) -> None:
    out, recipe = trained
    stage = build_stage(name, ModelFolder(out / "model", recipe))
    before, names = losses_and_gradients(stage), list(stage.state_dict())
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()  # pyright: ignore
    assert compile_blocks(stage, backend="aot_eager") > 0
    with compiled_shapes(), torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):  # pyright: ignore
        assert_close(losses_and_gradients(stage), before)
    assert list(stage.state_dict()) == names
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0  # pyright: ignore
    assert not torch._dynamo.utils.counters["graph_break"]  # pyright: ignore
    with uncompiled():
        assert_close(losses_and_gradients(stage), before)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for the CPU with g++")
def test_a_compiled_block_computes_the_same() -> None:
    torch.compiler.reset()
    block = ResnetBlock2D(in_channels=8, temb_channels=None, groups=4)  # pyright: ignore[reportArgumentType]
    x = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(0))

    def outputs() -> list[Tensor]:
        block.zero_grad()
        y = block(x, None)
        y.square().mean().backward()
        return [y.detach(), *(p.grad.clone() for p in block.parameters() if p.grad is not None)]

    plain = outputs()
    assert compile_blocks(block) == 1
    for found, expected in zip(outputs(), plain, strict=True):
        torch.testing.assert_close(found, expected)
