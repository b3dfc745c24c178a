"""`anystory bench flops` and `anystory bench speed` at a tiny size."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from anystory import cli
from anystory.evaluation.bench import networks
from evaluation.bench_sizes import TINY


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


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("flops", "--subjects", "two"), "--subjects must be numbers like 0-6 or 0,2,6, got 'two'"),
        (("flops", "--subjects", "3-1"), "--subjects names no number"),
        (("flops", "--model", "flux"), "--model must be one of sdxl, small, got 'flux'"),
        (("speed", "--device", "tpu"), "--device must be cpu or, where there is a GPU, cuda: got 'tpu'"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(bench, args, message):
    result = bench(*args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
