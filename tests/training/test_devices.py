"""Precision and attention of the forward pass: quick settings change the speed, not what is computed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from anystory.training.components import ModelFolder
from anystory.training.devices import bf16_is_native, forward_pass
from anystory.training.mini import run_stages
from anystory.training.recipe import Recipe
from anystory.training.stages import build_stage
from anystory.training.stream import collate

from .test_loop import options, trained

__all__ = ["trained"]
CPU = torch.device("cpu")


def test_plain_attention_equals_torchs_own() -> None:
    query, key, value = torch.randn(3, 2, 4, 16, 8, generator=torch.Generator().manual_seed(0))
    expected = F.scaled_dot_product_attention(query, key, value)
    with forward_pass(CPU, "fp32"):
        assert torch.allclose(F.scaled_dot_product_attention(query, key, value), expected, atol=1e-6)


def test_settings_are_given_back_also_after_an_error() -> None:
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    with pytest.raises(RuntimeError, match="stop"), forward_pass(CPU, "bf16"):
        assert torch.is_autocast_enabled("cpu")
        assert not torch.backends.cuda.flash_sdp_enabled()
        raise RuntimeError("stop")
    assert torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed() == before
    assert torch.backends.cuda.flash_sdp_enabled()
    assert not torch.is_autocast_enabled("cpu")


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
