"""`anystory.evaluation.bench.training`: what is measured and told. No assertion on seconds."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from anystory.evaluation.bench.bar import Bar
from anystory.evaluation.bench.show import as_json, show_training
from anystory.evaluation.bench.training import (
    LOADER_BAR,
    STEP_BAR,
    TrainingReport,
    measure_training,
)
from anystory.evaluation.bench.training_steps import StageSteps, settings_in_turn, steps_clock
from anystory.training.launch.devices import make_accelerator
from anystory.training.model.components import LOADERS, ModelFolder
from anystory.training.recipe import Recipe
from anystory.training.stages import build_stage
from training.conftest import TINY

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    torch.set_num_threads(1)
    return Recipe.model_validate(TINY)


@pytest.fixture(scope="module")
def model(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All components of the tiny recipe, as it makes them."""
    folder = ModelFolder(tmp_path_factory.mktemp("model"), recipe)
    for component in LOADERS:
        folder.save(component, folder.load_or_build(component))
    return folder.path


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def report(recipe: Recipe, model: Path, told: list[str]) -> TrainingReport:
    return measure_training(
        recipe, model=str(model), stages=["base"], rounds=1, steps=1, channels_last=True, progress=told.append
    )


def test_each_row_has_one_setting_more(report: TrainingReport, told: list[str]) -> None:
    (stage,) = report.stages
    expected = ["plain", "+ fused AdamW", "+ bf16", "+ quick attention", "+ cached latents and text", "+ channels-last"]
    if not report.native_bf16:
        expected.remove("+ bf16")
    assert [row.name for row in stage.settings] == expected
    plain = stage.settings[0]
    assert plain.ratio == 1
    for row in [*stage.settings, stage.bare, stage.whole]:
        assert 0 < row.seconds <= row.median
        assert row.samples == pytest.approx(4 / row.seconds)
        assert row.ratio == pytest.approx(plain.seconds / row.seconds)
    assert set(stage.loader) == {"read", "decode", "training", "batches"}
    assert min(stage.loader.values()) > 0
    assert told[-1] == "base: round 1 of 1"


def test_bars_are_of_the_figures_in_the_report(report: TrainingReport) -> None:
    loader, step = report.bars
    (stage,) = report.stages
    assert (loader.limit, step.limit) == (LOADER_BAR, STEP_BAR)
    assert report.core_seconds  # one thread on a CPU
    assert loader.value == pytest.approx(stage.loader["training"] * stage.whole.seconds / stage.batch_size)
    least = min(stage.bare.seconds, stage.settings[-1].seconds)  # without the optimizer, but for chance
    assert step.value == pytest.approx(stage.whole.seconds / least)


def test_several_threads_are_timed_by_the_clock(report: TrainingReport) -> None:
    loader = replace(report, core_seconds=False).bars[0]
    (stage,) = report.stages
    assert loader.name == "base: loader, one worker, over training"
    assert loader.value == pytest.approx(stage.loader["batches"] * stage.whole.seconds / stage.batch_size)
    assert steps_clock(CPU) is time.process_time
    torch.set_num_threads(2)
    try:
        assert steps_clock(CPU) is time.perf_counter
    finally:
        torch.set_num_threads(1)


def test_a_bar_is_met_from_its_own_side() -> None:
    def met(value: float, at_least: bool) -> bool:
        return Bar(name="", value=value, limit=2, at_least=at_least).met

    assert [met(1, True), met(2, True), met(3, True)] == [False, True, True]
    assert [met(1, False), met(2, False), met(3, False)] == [True, True, False]


def test_table_and_json_say_the_same(report: TrainingReport) -> None:
    out = io.StringIO()
    show_training(report, Console(file=out, width=140))
    shown = out.getvalue()
    assert "base, batches of 4" in shown
    assert "the loop's whole step" in shown
    values = json.loads(as_json(report))
    assert values["stages"][0]["whole"]["seconds"] == report.stages[0].whole.seconds
    assert [bar["met"] for bar in values["bars"]] == [bar.met for bar in report.bars]
    assert shown.count(" met ") + shown.count(" missed ") == len(report.bars)


@pytest.mark.parametrize(("name", "cached"), [("base", {"latents"}), ("encoder", {"latents", "text_hidden"})])
def test_the_loop_and_the_bare_step_compute_the_stages_losses(
    recipe: Recipe, model: Path, name: Any, cached: set[str]
) -> None:
    """What is cached is what the stage does not train, and gives the same losses; steps leave weights as they are."""
    stage: Any = build_stage(name, ModelFolder(model, recipe, writes=False))
    steps = StageSteps(stage, recipe.stages[name], make_accelerator())
    assert {"latents", "text_hidden"} & steps.cached_batch.keys() == cached
    assert "image" not in steps.cached_batch
    with torch.no_grad():
        losses = [float(stage(b, torch.Generator().manual_seed(0))["loss"]) for b in (steps.batch, steps.cached_batch)]
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)  # the cache is made in bf16 where that is native
    plain, *_, best = settings_in_turn(steps.device, channels_last=False, compiled=False)
    before = {key: value.detach().clone() for key, value in steps.parameters.items()}
    counted: list[int] = []
    hook = stage.register_forward_hook(lambda *_: counted.append(1))
    for run in (steps.bare(plain), steps.bare(best, optimizer=False), steps.loop(best)):
        counted.clear()
        assert run(1) > 0
        assert len(counted) == 3  # two to warm up
    hook.remove()
    for key, value in steps.parameters.items():
        assert value.requires_grad
        torch.testing.assert_close(value, before[key], rtol=0, atol=1e-6)


def test_compiled_blocks_are_a_setting_of_their_own() -> None:
    names = [s.name for s in settings_in_turn(torch.device("cuda"), channels_last=True, compiled=True, bf16_base=True)]
    assert names == ["plain", "+ fused AdamW", "+ cached latents and text", "+ channels-last", "+ compiled blocks"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": 0}, "`rounds` must be at least 1"),
        ({"steps": 0}, "`steps` must be at least 1"),
        ({"stages": ["vae"]}, "`stages` must be among base, encoder, router of recipe 'tiny'"),
        ({"stages": []}, "`stages` must be among"),
        ({"model": "no/such/folder"}, "no/such/folder"),
    ],
)
def test_what_cannot_be_measured_is_refused(recipe: Recipe, model: Path, changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        measure_training(recipe, **({"model": str(model)} | changes))


def test_targets_of_a_sample_are_pictures_too(recipe: Recipe, model: Path) -> None:
    config = recipe.stages["encoder"]
    several = config.model_copy(
        update={"batch_size": 2, "optimizer": "muon", "options": {**config.options, "targets": 3}}
    )
    recipe = recipe.model_copy(update={"stages": {**recipe.stages, "encoder": several}})
    found = measure_training(recipe, model=str(model), stages=["encoder"], rounds=1, steps=1)
    (stage,) = found.stages
    assert stage.settings[1].name == "+ optimizer muon"
    for row in [*stage.settings, stage.whole]:
        assert row.samples == pytest.approx(2 * 3 / row.seconds)
