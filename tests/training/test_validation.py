"""Validation: metrics of held-out samples that are the same every time, follow the weights and disturb nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from anystory.training.model.components import ModelFolder
from anystory.training.recipe import Recipe, StageName
from anystory.training.runlog import read_log
from anystory.training.stages import build_stage
from anystory.training.state.checkpoint import read_metric
from anystory.training.state.checkpoints import best_checkpoint, find_checkpoint
from anystory.training.trainer import train
from anystory.training.validation import LEVELS, draw_validation, held_out_batches, level_steps, routing_overlap

from .lines import LineStage
from .test_loop import options


def test_levels_part_the_time_steps() -> None:
    steps = torch.cat([level_steps(level, 4, 1000) for level in range(LEVELS)])
    assert steps.tolist() == list(range(25, 1000, 50))


def test_overlap_of_routing_and_truth() -> None:
    masks = torch.zeros(2, 2, 4, 4)
    masks[0, 0, :, :2] = 1  # the left half
    masks[1, 0, :2] = 1
    masks[1, 1, 2:] = 1
    present = torch.tensor([[True, False], [True, True]])
    truth = torch.cat([masks, 1 - masks.sum(dim=1, keepdim=True)], dim=1)
    assert routing_overlap([truth, truth], masks, present) == (3.0, 3)
    half = truth.clone()  # subject 1 of the first picture also wins the upper right quarter: 8 of 12 pixels
    half[0, 0, :2], half[0, 2, :2] = 1, 0
    total, count = routing_overlap([half], masks, present)
    assert (total, count) == (pytest.approx(2 + 8 / 12), 3)
    hidden = masks.clone()
    hidden[1, 1] = 0
    assert routing_overlap([truth], hidden, present)[1] == 2, "nobody can say where someone unseen is"


@pytest.mark.parametrize(
    ("name", "metrics"),
    [
        ("vae", {"loss", "l1", "psnr", "kl"}),
        ("base", {"loss", *(f"loss_{i}" for i in range(LEVELS))}),
        ("encoder", {"loss", *(f"loss_{i}" for i in range(LEVELS))}),
        ("router", {"loss", "iou_coarse", "iou_refined", *(f"loss_{i}" for i in range(LEVELS))}),
    ],
)
def test_metrics_are_fixed_and_follow_the_weights(
    trained: tuple[Path, Recipe], name: StageName, metrics: set[str]
) -> None:
    out, recipe = trained
    stage = build_stage(name, ModelFolder(out / "model", recipe))
    batches = held_out_batches(stage.held_out(), samples=3, batch_size=2)
    assert [len(batch["image"]) for batch in batches] == [2, 1]
    torch.manual_seed(1)
    before, state = stage.validate(batches), torch.get_rng_state()
    assert before.keys() == metrics
    assert stage.main_metric in metrics
    assert torch.equal(state, torch.get_rng_state()), "training's random numbers were touched"
    assert stage.validate(batches) == before
    if name != "vae":
        assert before["loss"] == pytest.approx(sum(before[f"loss_{i}"] for i in range(LEVELS)) / LEVELS)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in stage.trained_parameters().values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    assert stage.validate(batches)["loss"] != before["loss"]


def test_a_smaller_last_batch_counts_by_its_samples() -> None:
    stage = LineStage()
    metrics = [
        stage.validate(held_out_batches(stage.held_out(), samples=3, batch_size=size))["loss"] for size in (3, 2)
    ]
    assert metrics[1] == pytest.approx(metrics[0])


def test_validating_does_not_change_what_is_learned(trained: tuple[Path, Recipe], tmp_path: Path) -> None:
    out, recipe = trained
    ends = {}
    for every in (0, 1):
        folder = tmp_path / str(every)
        shutil.copytree(out / "model", folder / "model")
        config = recipe.stages["router"].model_copy(update={"validate_every": every, "validate_samples": 2, "steps": 3})
        train(build_stage("router", ModelFolder(folder / "model", recipe)), config, options(folder))
        found = find_checkpoint(folder / "router")
        assert found is not None
        ends[every] = [load_file(found / f"{kind}.safetensors") for kind in ("model", "ema", "optimizer")]
    for plain, validated in zip(ends[0], ends[1], strict=True):
        assert all(torch.equal(value, validated[key]) for key, value in plain.items())
    assert not any("val_loss" in record for record in read_log(tmp_path / "0" / "router" / "log.jsonl"))
    stage = tmp_path / "1" / "router"
    records = [record for record in read_log(stage / "log.jsonl") if "val_loss" in record]
    assert [record["step"] for record in records] == [1, 2, 3]
    assert (stage / "validation.png").stat().st_size > 1000
    best = best_checkpoint(stage)
    assert best is not None
    metric = read_metric(best)
    assert metric is not None
    assert (metric.name, metric.larger_is_better) == ("iou_refined", True)
    assert metric.value == max(record["val_iou_refined"] for record in records)
    first = next(record["step"] for record in records if record["val_iou_refined"] == metric.value)
    assert best.name == f"step-{first:08d}"


def test_nothing_to_draw(tmp_path: Path) -> None:
    assert not draw_validation([{"step": 1, "loss": 1.0}], tmp_path / "v.png")
    assert not (tmp_path / "v.png").exists()
