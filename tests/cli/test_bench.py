"""`anystory bench flops`, `speed` and `training` at a tiny size."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from typer.testing import CliRunner

from anystory import cli
from anystory.evaluation.bench import networks
from anystory.evaluation.bench.flux import networks as flux_networks
from anystory.evaluation.bench.klein import flops as klein_flops
from anystory.training.model.components import LOADERS, ModelFolder
from anystory.training.recipe import load_recipe
from evaluation.bench_sizes import TINY
from evaluation.flux.tiny import TINY_FLUX
from evaluation.klein.test_bench_klein import TINY as TINY_KLEIN
from training.conftest import TINY as TINY_RECIPE


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setitem(networks.MODELS, "small", TINY)
    monkeypatch.setitem(flux_networks.FLUX_MODELS, "flux-small", TINY_FLUX)
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


def test_klein_is_counted_only(bench, tmp_path, monkeypatch):
    monkeypatch.setitem(klein_flops.KLEIN_MODELS, "klein-small", TINY_KLEIN)
    file = tmp_path / "klein.json"
    result = bench("flops", "--model", "klein-small", "--subjects", "1", "--json", str(file))
    assert result.exit_code == 0, result.output
    assert "over stock" in result.stdout
    rows = json.loads(file.read_text())["rows"]
    assert {row["method"] for row in rows} == {"stock", "isolated", "regions", "strict"}
    for given in (["flops", "--foreground", "0.5"], ["flops", "--shown", "0.5"], ["speed", "--device", "cpu"]):
        assert bench(given[0], "--model", "klein-small", *given[1:]).exit_code == 2


def test_flux_is_counted_and_timed(bench, tmp_path):
    counted, timed = tmp_path / "flops.json", tmp_path / "speed.json"
    flux = ("--model", "flux-small", "--subjects", "1")
    result = bench("flops", *flux, "--steps", "3", "--shown", "0.5", "--json", str(counted))
    assert result.exit_code == 0, result.output
    assert "official" in result.stdout
    report = json.loads(counted.read_text())
    assert {(row["side"], row["method"]) for row in report["rows"]} == {
        (side, method) for side in (512, 1024) for method in ("stock", "fast", "plain", "official")
    }
    result = bench("speed", *flux, "--device", "cpu", "--rounds", "1", "--size", "64", "--json", str(timed))
    assert result.exit_code == 0, result.output
    assert [row["name"] for row in json.loads(timed.read_text())["around"]] == ["decode", "encode"]


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
        (("flops", "--model", "flow"), "must be one of sdxl, small, flux, flux-small, klein, klein-small, got 'flow'"),
        (("flops", "--model", "flux", "--foreground", "0.5"), "--foreground is for --model sdxl or small"),
        (("flops", "--shown", "1"), "--shown is for --model flux or flux-small"),
        (("flops", "--model", "flux", "--shown", "half"), "--shown must be shares like 1,0.5, got 'half'"),
        (("flops", "--model", "flux", "--shown", "2"), "`shown` must be shares above 0 and up to 1"),
        (("speed", "--model", "flux", "--compile"), "--compile is for --model sdxl or small"),
        (("speed", "--size", "64"), "--size is for --model flux or flux-small"),
        (("training", "--recipe", "huge"), "no recipe 'huge'"),
        (("training", "--stages", "base,vae"), "`stages` must be among base, encoder, router of recipe 'mini-128'"),
        (("training", "--model", "nowhere"), "nowhere"),
        (("speed", "--device", "tpu"), "--device must be cpu or, where there is a GPU, cuda: got 'tpu'"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(bench, args, message):
    result = bench(*args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
