"""`anystory bench flops`, `speed` and `training` at a tiny size."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from typer.testing import CliRunner

from anystory import cli
from anystory.evaluation.bench import networks
from anystory.training.components import LOADERS, ModelFolder
from anystory.training.recipe import load_recipe
from evaluation.bench_sizes import TINY
from training.conftest import TINY as TINY_RECIPE


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setitem(networks.MODELS, "small", TINY)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # other tests run in this process
    return lambda *args: CliRunner().invoke(cli.app, ["bench", *args])


def test_flops_prints_a_table_and_writes_json(bench, tmp_path):
    file = tmp_path / "flops.json"
    result = bench("flops", "--model", "small", "--subjects", "0-1", "--steps", "3", "--json", str(file))
    assert result.exit_code == 0, result.output
    assert "IP-Adapter-Plus" in result.stdout
    report = json.loads(file.read_text())
    assert (report["model"], report["steps"]) == ("tiny", 3)
    assert sorted({row["subjects"] for row in report["rows"]}) == [0, 1]


def test_speed_prints_tables_and_writes_json(bench, tmp_path):
    file = tmp_path / "speed.json"
    result = bench(
        *("speed", "--device", "cpu", "--model", "small", "--subjects", "1"),
        *("--rounds", "1", "--threads", "1", "--json", str(file)),
    )
    assert result.exit_code == 0, result.output
    assert "Table 1" in result.stdout
    assert [row["name"] for row in json.loads(file.read_text())["unet"]] == ["stock", "fast"]


def test_training_prints_tables_and_writes_json(bench, tmp_path):
    recipe, model, file = tmp_path / "tiny.yaml", tmp_path / "model", tmp_path / "training.json"
    recipe.write_text(yaml.safe_dump(TINY_RECIPE))
    folder = ModelFolder(model, load_recipe(recipe))
    for component in LOADERS:
        folder.save(component, folder.load_or_build(component))
    result = bench(
        *("training", "--recipe", str(recipe), "--model", str(model), "--stages", "base"),
        *("--rounds", "1", "--steps", "1", "--threads", "1", "--json", str(file)),
    )
    assert result.exit_code == 0, result.output
    assert "base, batches of 4" in result.stdout
    report = json.loads(file.read_text())
    assert [stage["stage"] for stage in report["stages"]] == ["base"]
    assert len(report["bars"]) == 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("flops", "--subjects", "two"), "--subjects must be numbers like 0-6 or 0,2,6, got 'two'"),
        (("flops", "--subjects", "3-1"), "--subjects names no number"),
        (("flops", "--model", "flux"), "--model must be one of sdxl, small, got 'flux'"),
        (("training", "--recipe", "huge"), "no recipe 'huge'"),
        (("training", "--stages", "base,vae"), "`stages` must be among base, encoder, router of recipe 'mini-cpu'"),
        (("training", "--model", "nowhere"), "nowhere"),
        (("speed", "--device", "tpu"), "--device must be cpu or, where there is a GPU, cuda: got 'tpu'"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(bench, args, message):
    result = bench(*args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
