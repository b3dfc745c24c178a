"""Muon against the plain formula and torch's own, and in the loop: checkpoints, resuming, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anystory.training.recipe import StageConfig
from anystory.training.state.muon import COEFFICIENTS, Muon, orthogonalised
from anystory.training.state.optimizer_state import OptimizerState
from anystory.training.state.optimizers import build_optimizer
from anystory.training.trainer import train

from .lines import LineStage
from .test_loop import options


def config(**changes: Any) -> StageConfig:
    values = {"batch_size": 4, "learning_rate": 1e-2, "warmup_steps": 1, "steps": 3, "optimizer": "muon"}
    return StageConfig(**(values | changes))


def plain_newton_schulz(matrix: Tensor) -> Tensor:
    """One matrix in double precision, as the formula reads, never transposed."""
    a, b, c = COEFFICIENTS
    x = matrix.double() / matrix.double().norm()
    for _ in range(5):
        x = a * x + b * (x @ x.T @ x) + c * (x @ x.T @ x @ x.T @ x)
    return x


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_newton_schulz_is_the_plain_formula(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]) -> None:
    monkeypatch.setattr("anystory.training.state.muon.bf16_is_native", lambda device: False)
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalised(matrices)
    for one, matrix in zip(found, matrices, strict=True):
        torch.testing.assert_close(one.double(), plain_newton_schulz(matrix), rtol=1e-3, atol=1e-4)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_a_matrix_moves_as_torchs_own_muon_moves_it() -> None:
    generator = torch.Generator().manual_seed(1)
    ours, theirs = (nn.Parameter(torch.ones(8, 16)) for _ in range(2))
    gradients = [torch.randn(8, 16, generator=generator) for _ in range(4)]
    one = Muon({"w": ours}, lr=0.02, weight_decay=0.1)
    two = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for gradient in gradients:
        for weight, optimizer in ((ours, one), (theirs, two)):
            weight.grad = gradient.clone()
            optimizer.step()
    assert (ours.detach() - 1).abs().max() > 0.01
    torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=0, atol=2e-3)  # they multiply in bf16


@torch.no_grad()
def test_a_convolution_moves_as_a_matrix_by_the_plain_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anystory.training.state.muon.bf16_is_native", lambda device: False)
    weight = nn.Parameter(torch.ones(4, 3, 3, 3).to(memory_format=torch.channels_last))
    optimizer = Muon({"w": weight}, lr=0.1, weight_decay=0.0, momentum=0.9)
    first, second = (torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(i)) for i in (2, 3))
    expected, momentum = torch.ones(4, 27).double(), torch.zeros(4, 27).double()
    for gradient in (first, second):
        weight.grad = gradient.to(memory_format=torch.channels_last)
        optimizer.step()
        momentum = 0.9 * momentum + 0.1 * gradient.flatten(1).double()
        update = 0.1 * gradient.flatten(1).double() + 0.9 * momentum  # Nesterov
        expected -= 0.1 * 0.2 * 27**0.5 * plain_newton_schulz(update)
    torch.testing.assert_close(weight.flatten(1).double(), expected, rtol=1e-3, atol=1e-4)


def test_vectors_embeddings_and_edges_are_adamws() -> None:
    shapes = {
        "norm.weight": (4,),
        "token_embedding.weight": (5, 4),
        "conv_in.weight": (4, 2, 3, 3),
        "mid.weight": (4, 4),
    }
    ours, theirs = ({n: nn.Parameter(torch.ones(*s)) for n, s in shapes.items()} for _ in range(2))
    one = build_optimizer(config(learning_rate=0.04, muon_adamw_ratio=0.25), ours)
    two = torch.optim.AdamW(theirs.values(), lr=0.01, betas=(0.9, 0.99), weight_decay=0.01)
    for step in range(3):
        for name, shape in shapes.items():
            gradient = torch.randn(*shape, generator=torch.Generator().manual_seed(step))
            ours[name].grad, theirs[name].grad = gradient, gradient.clone()
        one.step()
        two.step()
    for name in ("norm.weight", "token_embedding.weight", "conv_in.weight"):
        torch.testing.assert_close(ours[name], theirs[name])
    assert not torch.allclose(ours["mid.weight"], theirs["mid.weight"], atol=1e-3)
    moments = OptimizerState(one, ours)
    assert {name: set(kept) for name, kept in moments.tensors()} == {
        "norm.weight": {"step", "exp_avg", "exp_avg_sq"},
        "token_embedding.weight": {"step", "exp_avg", "exp_avg_sq"},
        "conv_in.weight": {"step", "exp_avg", "exp_avg_sq"},
        "mid.weight": {"momentum_buffer"},
    }


def test_a_resumed_run_equals_the_unbroken_one(tmp_path: Path) -> None:
    ends = []
    for place, budgets in (("broken", (2, 5)), ("unbroken", (5,))):
        for budget in budgets:
            stage, out = LineStage(), tmp_path / place
            train(stage, config(schedule="constant"), options(out, resume=budget != budgets[0], steps=budget))
        ends.append([value.detach().clone() for value in stage.parameters()])  # pyright: ignore[reportPossiblyUnbound]
    for found, expected in zip(*ends, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(("before", "after"), [("adamw", "muon"), ("muon", "adamw")])
def test_another_optimizers_checkpoint_is_told(tmp_path: Path, before: str, after: str) -> None:
    train(LineStage(), config(optimizer=before), options(tmp_path))
    with pytest.raises(ValueError, match="written with another optimizer"):
        train(LineStage(), config(optimizer=after), options(tmp_path, resume=True, steps=5))


def test_muon_and_weights_in_main_memory_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="masters 'cpu' needs optimizer 'adamw'"):
        config(masters="cpu")
