"""`anystory train cache`, and a run that trains on what it wrote, stops and goes on."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
import yaml
from safetensors import safe_open
from typer.testing import CliRunner, Result

from anystory.cli import app
from anystory.data.storyworld_writer import write_storyworld
from anystory.data.stream.cache import INDEX_NAME
from anystory.training.launch.run_file import read_run_file
from anystory.training.model.components import LOADERS, ModelFolder
from anystory.training.recipe import load_recipe
from anystory.training.state.checkpoint import read_progress
from anystory.training.state.checkpoints import find_checkpoint
from training.conftest import TINY


def train(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    """The tiny recipe with little to validate, and `shards`, `model` beside it."""
    values = copy.deepcopy(TINY)
    values["stages"]["encoder"] |= {"validate_samples": 2, "options": {"gate": "masks", "pictures": 1}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    write_storyworld(tmp_path / "shards", 5, size=32)
    write_storyworld(tmp_path / "shards", 2, size=32, split="heldout")
    folder = ModelFolder(tmp_path / "model", load_recipe(tmp_path / "tiny.yaml"))
    for name in LOADERS:
        folder.save(name, folder.load_or_build(name))
    return tmp_path / "tiny.yaml"


def test_cached_trained_and_resumed(recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = train("cache", recipe_file, "--data", "shards", "--model", "model", "--out", "cache", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert "cache: 5 samples, 0 of them bad" in done.output
    again = ["--model", "model", "--out", "again", "--device", "cpu", "--workers", "1"]
    assert train("cache", recipe_file, "--data", "shards", *again).exit_code == 0
    for path in Path("cache").iterdir():
        assert path.read_bytes() == (Path("again") / path.name).read_bytes()
    with safe_open("cache/part-00000.safetensors", framework="pt") as file:
        assert file.get_slice("latents").get_shape() == [5, 4, 8, 8]
    run = ["encoder", "--recipe", recipe_file, "--data", "shards", "--start", "model", "--out", "run", "--workers", 0]
    done = train(*run, "--cache", "cache", "--steps", 1)
    assert done.exit_code == 0, done.output
    assert read_run_file(Path("run")).recipe.cache == str(tmp_path / "cache")
    found = find_checkpoint(Path("run/encoder"))
    assert found is not None
    assert read_progress(found).step == 1
    # `resume` asks for the same cache without being told.
    done = train("resume", "run")
    assert done.exit_code == 0, done.output
    shutil.rmtree("cache")
    done = train("resume", "run")
    assert done.exit_code == 2
    assert f"the cache {tmp_path / 'cache'} does not exist" in done.output


def test_mistakes_are_told_in_one_line(recipe_file: Path, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "cache"]
    data = ["--data", tmp_path / "shards"]
    cases = [
        ([recipe_file, *data, *out], "has no base: --model says"),
        ([recipe_file, *out, "--model", tmp_path / "model"], "only shards can be cached"),
        (["sdxl_encoder", *data, *out, "--model", "mini"], "--model is for a recipe without a base"),
        (["sdxl_encoder", *data, *out, "--stage", "router"], "has no stage 'router'"),
        (["sdxl_encoder", *data, *out, "--device", "tpu"], "--device must be one of"),
        (["sdxl_encoder", *data, "--out", recipe_file], "must be a folder"),
        ([recipe_file, *data, *out, "--model", tmp_path / "shards"], "holds no vae"),
    ]
    for arguments, said in cases:
        result = train("cache", *arguments)
        assert result.exit_code == 2, result.output
        assert said in result.output
        assert "Traceback" not in result.output
    assert not (tmp_path / "cache" / INDEX_NAME).exists()
