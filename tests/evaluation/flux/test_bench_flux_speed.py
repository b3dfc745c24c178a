"""`anystory bench speed --model flux` at a tiny size."""

from __future__ import annotations

import io
import json

import pytest
import torch
from rich.console import Console

from anystory.evaluation.bench.flux.networks import FLUX, FLUX_SMALL
from anystory.evaluation.bench.flux.show import show_flux_speed
from anystory.evaluation.bench.flux.speed import FluxSpeedReport, default_flux_sizes, measure_flux_speed
from anystory.evaluation.bench.show import as_json
from evaluation.flux.tiny import SIDE, TINY_FLUX

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def report() -> FluxSpeedReport:
    return measure_flux_speed(device=CPU, sizes=TINY_FLUX, subjects=[0, 2], rounds=1, side=SIDE, turn=0.001)


def test_every_case_is_measured_against_the_stock_step(report):
    kinds = ("references computed", "references kept", "references kept + appearances")
    cases = [(row.name, row.subjects) for row in report.steps]
    assert cases == [("stock", 0), *((f"{method}, {kind}", 2) for method in ("fast", "official") for kind in kinds)]
    for row in report.steps:
        assert 0 < row.seconds <= row.median
        assert row.ratio == row.seconds / report.steps[0].seconds
    assert [(row.name, row.subjects) for row in report.around] == [("decode", 0), ("encode", 2)]


def test_table_and_json_say_the_same(report):
    out = io.StringIO()
    show_flux_speed(report, Console(file=out, width=140))
    assert "official, references kept" in out.getvalue()
    values = json.loads(as_json(report))
    assert values["steps"][1]["seconds"] == report.steps[1].seconds
    assert (values["dtype"], values["side"]) == ("float32", SIDE)


def test_a_gpu_gets_flux_and_a_cpu_its_layout():
    assert default_flux_sizes(torch.device("cuda")) is FLUX
    assert default_flux_sizes(CPU) is FLUX_SMALL
    assert len(FLUX_SMALL.blocks) == len(FLUX.blocks) == 57


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"subjects": [-1]}, "`subjects`"), ({"rounds": 0}, "`rounds`"), ({"shown": 0}, "`shown`")],
)
def test_numbers_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        measure_flux_speed(device=CPU, sizes=TINY_FLUX, **settings)
