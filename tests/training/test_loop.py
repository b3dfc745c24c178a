"""The loop: every stage trains, stops and resumes on the same samples with the same result."""

from __future__ import annotations

import gc
import shutil
import signal
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from anystory.training.launch import runner
from anystory.training.launch.devices import make_accelerator
from anystory.training.launch.options import RunOptions
from anystory.training.launch.runner import run_stages
from anystory.training.model.components import ModelFolder
from anystory.training.model.packing import pack
from anystory.training.recipe import Recipe, StageConfig, StageName
from anystory.training.runlog import read_log
from anystory.training.stages import build_stage
from anystory.training.state.checkpoint import read_progress
from anystory.training.state.checkpoints import find_checkpoint
from anystory.training.trainer import learning_rate, train

from .lines import LineStage


def options(out: Path, **changes: object) -> RunOptions:
    return replace(RunOptions(out=out, model=out / "model", workers=0, quiet=True), **changes)  # pyright: ignore


def test_all_stages_write_model_logs_and_pictures(trained: tuple[Path, Recipe]) -> None:
    out, recipe = trained
    for stage in recipe.stage_names:
        assert find_checkpoint(out / stage)
        assert (out / stage / "log.jsonl").read_text().count("\n") >= 1
        assert list((out / stage / "samples").glob("*.png"))
    assert "val_loss" in read_log(out / "vae" / "log.jsonl")[-1], "at the end, whatever its number"
    for component in ("vae", "text_encoder_2", "image_encoder", "unet", "adapter", "scheduler", "tokenizer_2"):
        assert (out / "model" / component).is_dir()
    assert not list(out.rglob("*.tmp")), "half-written folders are left behind"


def test_packed_weights_are_half_precision_and_load(trained: tuple[Path, Recipe], tmp_path: Path) -> None:
    out, recipe = trained
    size = pack(out / "model", tmp_path / "packed", recipe)
    assert 0 < size < 48 * 2**20
    tensors = load_file(next((tmp_path / "packed" / "unet").glob("*.safetensors")))
    assert {t.dtype for t in tensors.values()} == {torch.float16}


@pytest.mark.parametrize("name", ["vae", "router"])
def test_resumed_run_equals_the_unbroken_one(trained: tuple[Path, Recipe], tmp_path: Path, name: StageName) -> None:
    out, recipe = trained
    ends = {}
    # A constant rate: the schedule depends on the budget, which differs between the two runs.
    config = recipe.stages[name].model_copy(update={"decay_fraction": 0.0})
    for run, budgets in (("broken", (2, 4)), ("unbroken", (4,))):
        folder = tmp_path / run
        shutil.copytree(out / "model", folder / "model")
        if name == "vae":
            shutil.rmtree(folder / "model" / "vae")
        for budget in budgets:
            stage = build_stage(name, ModelFolder(folder / "model", recipe))
            train(stage, config, options(folder, resume=budget != budgets[0], steps=budget))
        kept = find_checkpoint(folder / name)
        assert kept is not None
        ends[run] = {k: load_file(kept / f"{k}.safetensors") for k in ("model", "ema")}
    for kind in ("model", "ema"):
        for key, value in ends["unbroken"][kind].items():
            assert torch.equal(value, ends["broken"][kind][key]), key


def test_only_the_stages_own_parameters_change(trained: tuple[Path, Recipe], tmp_path: Path) -> None:
    out, recipe = trained
    folder = tmp_path / "run"
    shutil.copytree(out / "model", folder / "model")
    before = load_file(folder / "model" / "adapter" / "diffusion_pytorch_model.safetensors")
    run_stages(("router",), recipe, options(folder, steps=3), {})
    after = load_file(folder / "model" / "adapter" / "diffusion_pytorch_model.safetensors")
    changed = {k for k in after if not torch.equal(before[k], after[k])}
    assert changed
    assert all(k.startswith(("routing_qformer", "routers")) for k in changed), sorted(changed)[:5]
    assert torch.equal(
        load_file(out / "model" / "unet" / "diffusion_pytorch_model.safetensors")["conv_in.weight"],
        load_file(folder / "model" / "unet" / "diffusion_pytorch_model.safetensors")["conv_in.weight"],
    )


def test_a_run_is_not_started_over_by_accident(trained: tuple[Path, Recipe]) -> None:
    out, recipe = trained
    with pytest.raises(ValueError, match="--resume"):
        run_stages(("vae",), recipe, options(out, steps=4), {})


def test_a_checkpoint_of_another_size_is_refused(trained: tuple[Path, Recipe]) -> None:
    out, recipe = trained
    wider = recipe.model_copy(update={"autoencoder": {**recipe.autoencoder, "encoder_width": 32}})
    shutil.copytree(out / "vae", out.parent / "wider" / "vae")
    with pytest.raises(ValueError, match="does not fit"):
        run_stages(("vae",), wider, options(out.parent / "wider", resume=True, steps=4), {})


def test_a_stage_without_its_forerunner_says_so(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train stage 'vae'"):
        run_stages(("base",), recipe, options(tmp_path), {})


def test_no_budget_is_an_error(recipe: Recipe, tmp_path: Path) -> None:
    bare = recipe.model_copy(
        update={"stages": {**recipe.stages, "vae": recipe.stages["vae"].model_copy(update={"steps": None})}}
    )
    with pytest.raises(ValueError, match="no budget"):
        run_stages(("vae",), bare, options(tmp_path), {})


def test_unknown_stage_option_is_named(recipe: Recipe, tmp_path: Path) -> None:
    odd = recipe.stages["vae"].model_copy(update={"options": {"speed": 1}})
    with pytest.raises(ValueError, match="speed"):
        run_stages(("vae",), recipe.model_copy(update={"stages": {**recipe.stages, "vae": odd}}), options(tmp_path), {})


def test_what_was_trained_is_let_go(tmp_path: Path) -> None:
    """A run's stages follow each other on one accelerator, which remembers what it has prepared."""
    accelerator, stage = make_accelerator(), LineStage()
    config = StageConfig(batch_size=2, learning_rate=1e-2, warmup_steps=1)
    train(stage, config, options(tmp_path, steps=2), accelerator)
    kept = weakref.ref(stage)
    del stage
    gc.collect()
    assert kept() is None


def test_stages_that_fsdp2_cannot_export_are_refused(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "is_sharded", lambda _: True)
    with pytest.raises(ValueError, match=r"FSDP2 can train encoder and router, not vae, base: use .*ddp\.yaml"):
        run_stages(("vae", "base", "encoder"), recipe, options(tmp_path), {})


def test_learning_rate_warms_up_holds_and_falls() -> None:
    config = StageConfig(batch_size=1, learning_rate=1.0, warmup_steps=10, decay_fraction=0.5)
    assert learning_rate(config, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(config, 100, 0.4) == 1.0
    assert learning_rate(config, 100, 0.75) == pytest.approx(0.5)
    assert learning_rate(config, 100, 1.0) == pytest.approx(0.05)


def test_an_interrupted_run_keeps_what_it_learned(recipe: Recipe, tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path / "model", recipe)
    stage = build_stage("vae", folder)
    fetch = stage.fetch()

    def stops_at_the_third_batch(index: int) -> dict[str, object]:
        if index == 2 * recipe.stages["vae"].batch_size:
            signal.raise_signal(signal.SIGINT)
        return fetch(index)

    stage.fetch = lambda: stops_at_the_third_batch  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(KeyboardInterrupt):
        train(stage, recipe.stages["vae"], options(tmp_path, steps=9))
    kept = find_checkpoint(tmp_path / "vae")
    assert kept is not None
    assert read_progress(kept).step == 3, "the step in which the signal came is finished first"
    resumed = train(build_stage("vae", folder), recipe.stages["vae"], options(tmp_path, resume=True, steps=4))
    assert resumed.step == 4
    records = read_log(tmp_path / "vae" / "log.jsonl")
    assert [r["step"] for r in records if "loss" in r] == [1], "only the first step is logged before the twentieth"
