from __future__ import annotations

import io
import json

import pytest
import torch
from rich.console import Console

from anystory.evaluation.bench import meters
from anystory.evaluation.bench.meters import peak_bytes
from anystory.evaluation.bench.networks import SDXL, SMALL
from anystory.evaluation.bench.show import as_json, show_speed
from anystory.evaluation.bench.speed import SpeedReport, default_sizes, measure_speed
from evaluation.bench_sizes import TINY

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def report() -> SpeedReport:
    return measure_speed(device=CPU, sizes=TINY, subjects=[0, 1, 2], rounds=2, steps=3, plain=True, turn=0.001)


def test_every_case_is_measured_against_the_stock_step(report):
    cases = [(row.name, row.subjects) for row in report.unet]
    assert cases == [("stock", 0), ("fast", 1), ("plain", 1), ("fast", 2), ("plain", 2)]
    assert report.unet[0].ratio == 1
    for row in report.unet:
        assert 0 < row.seconds <= row.median
        assert row.ratio == row.seconds / report.unet[0].seconds


def test_table_1_has_its_two_rows_and_ours(report):
    assert [row.name for row in report.reference_net] == ["U-Net", "ReferenceNet, the paper's", "ReferenceNet, pruned"]
    assert report.reference_net[0].ratio == 1


def test_a_first_picture_pays_for_encoding(report):
    assert [(row.name, row.subjects) for row in report.pictures] == [
        ("fast", 1),
        ("plain", 1),
        ("fast", 2),
        ("plain", 2),
    ]
    for row in report.pictures:
        assert row.first > row.second > 0


def test_table_and_json_say_the_same(report):
    out = io.StringIO()
    show_speed(report, Console(file=out, width=120))
    assert "Table 1" in out.getvalue()
    values = json.loads(as_json(report))
    assert values["unet"][1]["seconds"] == report.unet[1].seconds
    assert (values["dtype"], values["compiled"]) == ("float32", False)


def test_a_gpu_gets_sdxl_and_a_cpu_its_layout():
    assert default_sizes(torch.device("cuda")) is SDXL
    assert default_sizes(CPU) is SMALL
    assert SMALL.depths == SDXL.depths
    assert SMALL.picture == 2 * SMALL.adapter.reference_size
    assert [w // h for w, h in zip(SMALL.channels, SMALL.heads, strict=True)] == [64] * 3


@pytest.mark.skipif(not meters._CLEAR_REFS.exists(), reason="only Linux tells a process its peak")
def test_peak_memory_is_that_of_the_call():
    def hold(megabytes: int) -> None:
        torch.ones(megabytes * 2**18)  # touched, so resident

    # Much, because the system may take a hundred megabytes of libraries that lie unused away in the meantime.
    small, large = (peak_bytes(lambda n=n: hold(n), CPU) for n in (1, 1000))
    again = peak_bytes(lambda: hold(1), CPU)
    assert small is not None
    assert large is not None
    assert again is not None
    assert large - small > 750 * 2**20
    assert large - again > 750 * 2**20


def test_peak_memory_may_be_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr(meters, "_CLEAR_REFS", tmp_path / "no" / "such")
    called = []
    assert peak_bytes(lambda: called.append(1), CPU) is None
    assert called == [1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"subjects": [-1]}, "`subjects`"), ({"rounds": 0}, "`rounds`"), ({"steps": 0}, "`steps`")],
)
def test_numbers_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        measure_speed(device=CPU, sizes=TINY, **settings)
