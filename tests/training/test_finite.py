"""A loss or gradient that is not a number stops the run at its step, and the step can be computed once more."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from anystory.training.bad_step import load_bad_step, replay_bad_step, save_bad_step
from anystory.training.failures import NotFinite
from anystory.training.model.components import ModelFolder
from anystory.training.non_finite import GuardedBatch, GuardedStep, NonFiniteGuard
from anystory.training.recipe import Recipe
from anystory.training.stages import build_stage
from anystory.training.state.checkpoint import read_progress
from anystory.training.state.checkpoints import Checkpoints, find_checkpoint
from anystory.training.trainer import train
from cli.refusals import DAMAGE, spoil

from .test_loop import options

CPU = torch.device("cpu")
ONE = torch.ones(())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_stops_at_the_step_and_the_step_can_be_replayed(recipe: Recipe, tmp_path: Path, precision: str) -> None:
    config = recipe.stages["vae"].model_copy(
        update={"learning_rate": 1e30, "checkpoint_minutes": 1e-9, "validate_every": 0}
    )
    folder = ModelFolder(tmp_path / "model", recipe)
    with pytest.raises(
        NotFinite, match=r"stopped at step 2: its loss is nan.*nan-step-2; the last checkpoint is step-"
    ):
        train(build_stage("vae", folder), config, options(tmp_path, steps=9, precision=precision))
    last = find_checkpoint(tmp_path / "vae")
    assert last is not None
    assert read_progress(last).step == 1, "the bad step is not in a checkpoint"
    assert Checkpoints(tmp_path / "vae").newest() == last

    place = tmp_path / "vae" / "nan-step-2"
    bad = load_bad_step(place)
    assert (bad.step, bad.rank, bad.precision) == (2, 0, precision)
    assert (place / str(bad.checkpoint)).resolve() == last
    assert math.isnan(bad.losses[0]["loss"])
    fetch, batch = build_stage("vae", folder).fetch(), config.batch_size
    expected = torch.stack([torch.as_tensor(fetch(i)["image"]) for i in range(batch, 2 * batch)])
    assert torch.equal(bad.batches[0]["image"], expected), "the second batch of the stream"

    outcome = replay_bad_step(build_stage("vae", folder), bad)
    assert not outcome.finite
    assert math.isnan(outcome.losses[0]["loss"])
    assert replay_bad_step(build_stage("vae", folder), replace(bad, parameters=None)).finite, "the weights are to blame"


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_step_is_named(tmp_path: Path, kind: str) -> None:
    part = GuardedBatch({"image": torch.ones(2, 3)}, seed=7, losses={"loss": torch.tensor(math.inf)})
    bad = GuardedStep(5, [part], norm=torch.tensor(1.0), exact=False)
    save_bad_step(tmp_path, bad, parameters={}, precision="fp32", rank=0, checkpoint=None)
    spoil(tmp_path / "nan-step-5" / "step.json", kind)
    with pytest.raises(ValueError, match=r"nan-step-5"):
        load_bad_step(tmp_path / "nan-step-5")


def test_captions_seeds_and_all_batches_of_a_step_are_kept(tmp_path: Path) -> None:
    parts = [
        GuardedBatch(
            {"image": torch.full((2, 3), i), "caption": [f"a {i}", "b"]}, seed=7 + i, losses={"loss": torch.tensor(x)}
        )
        for i, x in enumerate((1.0, math.inf))
    ]
    bad = GuardedStep(5, parts, norm=torch.tensor(math.inf), exact=False)
    save_bad_step(tmp_path, bad, parameters={}, precision="bf16", rank=0, checkpoint=None)
    found = load_bad_step(tmp_path / "nan-step-5")
    assert found.seeds == [7, 8]
    assert [b["caption"] for b in found.batches] == [["a 0", "b"], ["a 1", "b"]]
    assert torch.equal(found.batches[1]["image"], torch.full((2, 3), 1))
    assert [losses["loss"] for losses in found.losses] == [1.0, math.inf]
    assert found.grad_norm == math.inf
    assert found.parameters is None, "they were spoilt by the step"
    assert json.loads((tmp_path / "nan-step-5" / "step.json").read_text())["checkpoint"] is None


def test_other_processes_keep_their_batch_if_it_was_theirs(tmp_path: Path) -> None:
    weights = {"w": nn.Parameter(torch.ones(2))}
    for rank, loss in enumerate((1.0, math.nan, 2.0)):
        part = GuardedBatch({"image": torch.full((1,), rank)}, seed=rank, losses={"loss": torch.tensor(loss)})
        bad = GuardedStep(5, [part], norm=torch.tensor(math.nan))
        save_bad_step(tmp_path, bad, parameters=weights, precision="fp32", rank=rank, checkpoint=None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nan-step-5", "nan-step-5-rank-1"]
    found = load_bad_step(tmp_path / "nan-step-5-rank-1")
    assert found.rank == 1
    assert found.parameters is not None
    assert torch.equal(found.parameters["w"], torch.ones(2)), "the main process wrote them for all"


def test_no_saved_step_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no saved step"):
        load_bad_step(tmp_path)


def guarded(guard: NonFiniteGuard, step: int, loss: float = 1.0, norm: float = 1.0) -> GuardedStep | None:
    guard.begin(step)
    guard.record({}, step, {"loss": torch.tensor(loss)})
    return guard.check(torch.tensor(norm))


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.inf), (1.0, math.nan)])
def test_losses_and_gradients_are_guarded(loss: float, norm: float) -> None:
    guard = NonFiniteGuard(torch.optim.AdamW([nn.Parameter(ONE)]), CPU)
    assert guarded(guard, 1) is None
    bad = guarded(guard, 2, loss, norm)
    assert bad is not None
    assert (bad.step, bad.exact) == (2, True)


@pytest.mark.parametrize("fused", [True, False])
def test_an_answer_that_comes_a_step_late_finds_the_weights_as_they_were(fused: bool) -> None:
    """The way of a GPU, here on the CPU: only a fused step can be told on the device to do nothing."""
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=fused)
    guard = NonFiniteGuard(optimizer, CPU, delayed=True)
    kept: list[Tensor] = []
    for step, gradient in enumerate((1.0, 2.0, math.nan, 1.0), start=1):
        kept.append(weight.detach().clone())
        weight.grad = torch.full((3,), gradient)
        guard.begin(step)
        guard.record({}, step, {"loss": torch.tensor(gradient)})
        bad = guard.check(weight.grad.norm())
        assert (bad is not None) == (step == 4)
        optimizer.step()
    assert not torch.equal(kept[1], kept[0])
    assert not torch.equal(kept[2], kept[1]), "good steps are taken"
    assert bad is not None
    assert (bad.step, bad.exact) == (3, fused)
    assert torch.equal(weight, kept[2]) == fused


def test_steps_under_way_are_settled_before_a_checkpoint() -> None:
    guard = NonFiniteGuard(torch.optim.AdamW([nn.Parameter(ONE)], fused=True), CPU, delayed=True)
    assert guarded(guard, 1) is None
    assert guard.flush() is None
    assert guarded(guard, 2, loss=math.nan) is None
    bad = guard.flush()
    assert bad is not None
    assert bad.step == 2
