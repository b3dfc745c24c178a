"""`anystory train export`: a checkpoint as the model that the end of its stage would have written."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from anystory.cli import app
from anystory.models.adapter import SubjectAdapter
from anystory.training.launch.options import RunOptions
from anystory.training.launch.run_file import RunFile, plain_options
from anystory.training.launch.runner import launch
from anystory.training.model.checkpoint_export import export_checkpoint
from anystory.training.model.components import ModelFolder
from anystory.training.recipe import Recipe
from anystory.training.stages import build_stage
from anystory.training.state.checkpoint import load_exported, read_metric
from anystory.training.state.checkpoints import all_checkpoints, best_checkpoint, find_checkpoint

from .conftest import TINY
from .sdxl_base import recipe_on, write_base

STEPS = 4


def train(out: Path, recipe: Recipe, **changes: object) -> Path:
    """Run all stages of a recipe, STEPS steps each."""
    settings = RunOptions(out, out / "model", **({"steps": STEPS, "workers": 0} | changes))  # pyright: ignore
    run = RunFile(stages=recipe.stage_names, recipe=recipe, options=plain_options(settings), minutes={})
    launch(run, out, resume=False, quiet=True)
    return out


def export(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train", "export", *map(str, arguments)])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five stages. The autoencoder's rate is so high that its first steps are its best."""
    torch.set_num_threads(1)
    values = copy.deepcopy(TINY)
    for stage in values["stages"].values():
        stage |= {"batch_size": 2, "validate_samples": 2, "checkpoint_minutes": 1e-9, "validate_every": 0}
    values["stages"]["vae"] |= {"learning_rate": 0.3, "validate_every": 1, "schedule": "constant"}
    return train(tmp_path_factory.mktemp("mini") / "run", Recipe.model_validate(values))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("stage", ["vae", "base", "encoder", "router"])
def test_the_last_checkpoint_gives_what_the_finished_run_wrote(mini: Path, tmp_path: Path, stage: str) -> None:
    before = files(mini)
    done = export(mini, "--stage", stage, "--checkpoint", "last", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert f"stage {stage}, step {STEPS}" in done.output
    assert "--model" in done.output
    found, expected = files(tmp_path / "out"), files(mini / "model")
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    assert files(mini) == before, "the run is only read"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_best_checkpoint_is_another_model_and_is_told(mini: Path, tmp_path: Path) -> None:
    best = best_checkpoint(mini / "vae")
    assert best is not None
    assert best != find_checkpoint(mini / "vae"), "the rate was meant to be too high"
    metric = read_metric(best)
    assert metric is not None
    done = export(mini, "--stage", "vae", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert f"stage vae, step {int(best.name[5:])} (validated loss {metric.value:.6g})" in done.output
    assert "note: clip, base, encoder, router learned on other weights" not in done.output
    assert "base, encoder, router learned on other weights than those in" in done.output
    found, last = (load_file(next((p / "vae").glob("*.safetensors"))) for p in (tmp_path / "out", mini / "model"))
    averages = load_file(best / "ema.safetensors")
    assert all(torch.equal(found[name.removeprefix("vae.")], value) for name, value in averages.items())
    assert any(not torch.equal(value, last[name]) for name, value in found.items())
    # The others lie as they did, and the whole is a model that a stage can be built on.
    for name, content in files(mini / "model" / "unet").items():
        assert (tmp_path / "out" / "unet" / name).read_bytes() == content
    build_stage("router", ModelFolder(tmp_path / "out", Recipe.model_validate(TINY)))


def test_without_validation_the_newest_is_taken_and_any_may_be_named(mini: Path, tmp_path: Path) -> None:
    """Of the run's last stage, since none is named."""
    found = export_checkpoint(mini, tmp_path / "default")
    assert (found.stage, found.progress.step, found.metric, found.stale) == ("router", STEPS, None, ())
    named = export_checkpoint(mini, tmp_path / "named", checkpoint=f"step-{STEPS - 1}")
    assert named.progress.step == STEPS - 1
    adapters = [load_file(next((tmp_path / p / "adapter").glob("*.safetensors"))) for p in ("default", "named")]
    changed = {name for name, value in adapters[0].items() if not torch.equal(value, adapters[1][name])}
    assert changed
    assert all(name.startswith(("routers", "routing_qformer")) for name in changed)


@pytest.mark.parametrize("changes", [{}, {"masters": "cpu"}, {"ema": "off"}], ids=str)
def test_on_a_base_the_folder_is_an_adapter(base: Path, tmp_path: Path, changes: dict[str, str]) -> None:
    recipe = recipe_on(base)
    config = recipe.stages["encoder"].model_copy(update=changes | {"validate_samples": 2})
    recipe = recipe.model_copy(update={"stages": {"encoder": config}})
    run = train(tmp_path / "run", recipe, precision="bf16" if changes.get("masters") else "fp32", steps=2)
    done = export(run, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "--adapter" in done.output
    assert files(tmp_path / "out") == files(run / "model")
    if changes:
        return
    # As while the stage is still under way: the run has written no model yet.
    shutil.rmtree(run / "model")
    export_checkpoint(run, tmp_path / "again")
    assert files(tmp_path / "again") == files(tmp_path / "out")
    SubjectAdapter.from_pretrained(tmp_path / "again" / "adapter")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{run}", "--out", "{run}"], "exists already and is not empty"),
        (["{run}", "--out", "{run}/run.json"], "must be a folder, but"),
        (["{run}", "--out", "{run}/model/mine"], "is where the run writes its model"),
        (["{run}/model", "--out", "{out}"], "is not the folder of a training run"),
        (["{run}", "--out", "{out}", "--stage", "judge"], "has no 'judge', only vae, clip, base, encoder, router"),
        (["{run}", "--out", "{out}", "--checkpoint", "newest"], "best, last or step-N, got 'newest'"),
        (["{run}", "--out", "{out}", "--checkpoint", "step-77"], "no checkpoint of step 77: it keeps step-3, step-4"),
        (["{run}", "--out", "{out}", "--checkpoint", "best"], "was validated (validate_every): choose last, or one of"),
    ],
)
def test_mistakes_are_told_in_one_line(mini: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    before = files(mini)
    done = export(*(a.format(run=mini, out=tmp_path / "out") for a in arguments))
    assert done.exit_code == 2, done.output
    assert said in done.output
    assert len([line for line in done.output.splitlines() if not line.endswith(" …")]) == 1  # but for what it is doing
    assert not (tmp_path / "out").exists()
    assert files(mini) == before


@pytest.fixture
def lines(mini: Path, tmp_path: Path) -> Path:
    """A copy of the run's first stage alone."""
    for name in ("vae", "model"):
        shutil.copytree(mini / name, tmp_path / "run" / name)
    shutil.copy(mini / "run.json", tmp_path / "run")
    return tmp_path / "run"


def test_damaged_checkpoints_are_refused_and_others_named(lines: Path, tmp_path: Path) -> None:
    best = best_checkpoint(lines / "vae")
    assert best is not None
    (best / "ema.safetensors").write_bytes(b"x" * (best / "ema.safetensors").stat().st_size)
    others = [f"step-{int(path.name[5:])}" for path in all_checkpoints(lines / "vae") if path != best]
    with pytest.raises(ValueError, match=rf"damaged \(ema\.safetensors has other.*--checkpoint: {', '.join(others)}"):
        export_checkpoint(lines, tmp_path / "out")
    (best / "progress.json").write_text("{")
    assert best_checkpoint(lines / "vae") != best, "nobody knows its metric any more"
    with pytest.raises(ValueError, match=r"damaged .*progress\.json has 1 of"):
        export_checkpoint(lines, tmp_path / "out", checkpoint=best.name)
    assert not (tmp_path / "out").exists()


def test_stages_without_checkpoints(lines: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint of stage 'base' yet; there are some of vae"):
        export_checkpoint(lines, tmp_path / "out", stage="base")
    shutil.rmtree(lines / "model")
    assert export_checkpoint(lines, tmp_path / "first").stage == "vae", "the first stage needs no other"
    (lines / "vae").rename(lines / "clip")
    shutil.copytree(lines / "clip", lines / "base")
    with pytest.raises(ValueError, match="model is gone, which held what stage 'base' was trained on"):
        export_checkpoint(lines, tmp_path / "out", stage="base")
    for name in ("clip", "base"):
        shutil.rmtree(lines / name)
    with pytest.raises(ValueError, match="holds no checkpoint yet"):
        export_checkpoint(lines, tmp_path / "out")


def test_what_a_killed_run_left_half_written_is_left_out(lines: Path, tmp_path: Path) -> None:
    """Killed between the two renames of a component's folder, with another half-written."""
    unet, model = lines / "model" / "unet", lines / "model"
    expected = files(unet)
    unet.rename(model / ".unet.old")
    (model / ".adapter.tmp").mkdir()
    (model / ".adapter.tmp" / "config.json").write_text("{")
    before = files(lines)
    export_checkpoint(lines, tmp_path / "out", checkpoint="last")
    assert files(tmp_path / "out" / "unet") == expected
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]
    assert files(lines) == before


def test_a_checkpoint_that_goes_while_it_is_read(lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(path: Path, parameters: object) -> None:
        shutil.rmtree(path)
        load_exported(path, {})

    monkeypatch.setattr("anystory.training.model.checkpoint_export.load_exported", gone)
    with pytest.raises(ValueError, match="was removed while it was read, since the run continues: try again"):
        export_checkpoint(lines, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_size_is_refused(lines: Path, tmp_path: Path) -> None:
    text = (lines / "run.json").read_text()
    assert '"encoder_width": 16' in text
    (lines / "run.json").write_text(text.replace('"encoder_width": 16', '"encoder_width": 32'))
    shutil.rmtree(lines / "model")
    with pytest.raises(ValueError, match="does not fit this model"):
        export_checkpoint(lines, tmp_path / "out", stage="vae")
