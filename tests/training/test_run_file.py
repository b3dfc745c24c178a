"""`run.json`, and going on with a run by its folder alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from anystory.cli import app
from anystory.training.data.prerender_settings import Prerender
from anystory.training.failures import DiskFull
from anystory.training.launch import runner
from anystory.training.launch.options import RunOptions
from anystory.training.launch.run_file import RunFile, plain_options, read_run_file
from anystory.training.launch.stopping import Terminated
from anystory.training.model.exports import exported_steps
from anystory.training.recipe import Recipe
from anystory.training.state.checkpoints import find_checkpoint

from .conftest import TINY


def train(*arguments: object) -> tuple[int, str]:
    """Exit code and output of `anystory train`."""
    result = CliRunner().invoke(app, ["train", *map(str, arguments)])
    return result.exit_code, result.output


def test_everything_comes_back(recipe: Recipe, tmp_path: Path) -> None:
    asked = RunOptions(
        tmp_path, tmp_path / "model", steps=7, workers=3, seed=5, precision="bf16", prerender=Prerender(9, minutes=2.0)
    )
    run = RunFile(
        stages=("vae", "clip"),
        recipe=recipe,
        options=plain_options(asked),
        minutes={"vae": 1.5},
        threads=2,
        pack_to=tmp_path / "packed",
    )
    run.write(tmp_path)
    found = read_run_file(tmp_path)
    assert found == run
    moved = tmp_path / "elsewhere"
    options = found.run_options(moved, resume=True)
    assert options == RunOptions(
        moved,
        moved / "model",
        resume=True,
        steps=7,
        workers=3,
        seed=5,
        precision="bf16",
        prerender=Prerender(9, minutes=2.0),
    )


def test_places_are_kept_for_every_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the command and of a YAML file; hub ids and embedded names are no paths, whatever lies here."""
    started: list[RunFile] = []
    monkeypatch.setattr(runner, "launch", lambda run, out, **_: started.append(run))
    for folder in ("data/one", "data/two", "sdxl", "adapter", "mini", "vae", "clip"):
        (tmp_path / folder).mkdir(parents=True)
    values = {
        "name": "here",
        "resolution": 32,
        "shards": ["data/one"],
        "cache": "caches/one",
        "base": {"source": "sdxl", "vae": "./vae", "image_encoder": "laion/clip", "config": "clip"},
        "start": "mini",
        "adapter": {"preset": "sdxl"},
        "defaults": {"guidance_scale": 2.0},
        "stages": {"encoder": {"batch_size": 1, "learning_rate": 1e-3, "steps": 1}},
    }
    (tmp_path / "here.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    code, said = train("here.yaml", "--out", "run")
    assert (code, said.splitlines()[-1]) == (0, "model: run/model")
    more = ("--data", "data/one", "--data", "data/two", "--base", "owner/sdxl", "--adapter", "adapter", "--cache", "c")
    assert train("here.yaml", "--out", "run", *more)[0] == 0
    plain, named = (run.recipe for run in started)
    assert plain.base is not None
    assert (plain.base.source, plain.base.vae) == (str(tmp_path / "sdxl"), str(tmp_path / "vae"))
    assert (plain.base.image_encoder, plain.base.config) == ("laion/clip", str(tmp_path / "clip"))
    assert (plain.shards, plain.cache) == ((str(tmp_path / "data/one"),), str(tmp_path / "caches/one"))
    assert plain.start == "mini", "an embedded model's name, although there is a folder of that name"
    assert named.base is not None
    assert named.base.source == "owner/sdxl"
    assert named.shards == (str(tmp_path / "data/one"), str(tmp_path / "data/two"))
    assert (named.start, named.cache) == (str(tmp_path / "adapter"), str(tmp_path / "c"))


def test_a_file_of_another_version_is_a_sentence(recipe: Recipe, tmp_path: Path) -> None:
    run = RunFile(stages=("vae",), recipe=recipe, options={}, minutes={})
    values = json.loads(run.model_dump_json()) | {"wings": 2}
    (tmp_path / "run.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"run\.json does not fit this version of anystory .*wings.*--resume"):
        read_run_file(tmp_path)


def test_resume_without_a_run_file_says_so(tmp_path: Path) -> None:
    code, said = train("resume", tmp_path)
    assert code == 2
    assert "is not the folder of a training run: it has no run.json" in said


def test_resume_needs_the_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, out = tmp_path / "tiny.yaml", tmp_path / "run"
    build, built = runner.build_stage, []

    def dies_in_clip(name, folder):
        if name == "clip":
            raise KeyboardInterrupt
        return build(name, folder)

    def noted(name, folder):
        built.append(name)
        return build(name, folder)

    monkeypatch.setattr(runner, "build_stage", dies_in_clip)
    asked = plain_options(RunOptions(out, out / "model", steps=3, workers=0))
    run = RunFile(stages=("vae", "clip"), recipe=Recipe.model_validate(TINY), options=asked, minutes={})
    with pytest.raises(KeyboardInterrupt):
        runner.launch(run, out, resume=False, quiet=True)
    assert exported_steps(out / "model") == {"vae": 3}
    monkeypatch.setattr(runner, "build_stage", noted)
    code, said = train("resume", out)
    assert code == 0, said
    assert built == ["clip"], "what is finished is not built again"
    assert "[vae] finished at step 3" in said
    assert exported_steps(out / "model") == {"vae": 3, "clip": 3}

    built.clear()
    before = (out / "run.json").read_bytes()
    assert train("resume", out)[0] == 0
    assert built == []
    recipe.write_text(yaml.safe_dump(TINY))
    code, said = train("vae", "--recipe", recipe, "--out", out)
    assert code == 2
    assert "--resume" in said
    assert (out / "run.json").read_bytes() == before, "a refused command leaves the run's own"


@pytest.mark.parametrize(
    ("end", "code"), [(Terminated(), 0), (KeyboardInterrupt(), 130), (DiskFull("the disk is full"), 1)]
)
def test_exit_codes(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException, code: int
) -> None:
    def ends(*_: object, **__: object) -> None:
        raise end

    monkeypatch.setattr(runner, "launch", ends)
    RunFile(stages=("vae",), recipe=recipe, options={}, minutes={}).write(tmp_path)
    found, said = train("resume", tmp_path)
    assert found == code
    assert "Traceback" not in said
    if code == 1:
        assert said.splitlines()[-1] == "anystory: the disk is full"


def test_a_full_disk_while_logging_is_told_too(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from anystory.training.runlog import RunLog

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    options = RunOptions(tmp_path, tmp_path / "model", steps=2, workers=0, quiet=True)
    runner.run_stages(("vae",), recipe, options, {})
    last = find_checkpoint(tmp_path / "vae")
    assert last is not None
    monkeypatch.setattr(RunLog, "picture", full)
    longer = RunOptions(tmp_path, tmp_path / "model", steps=3, workers=0, quiet=True, resume=True)
    with pytest.raises(DiskFull, match=r"the last good checkpoint is .*step-00000003.*train resume"):
        runner.run_stages(("vae",), recipe, longer, {})
