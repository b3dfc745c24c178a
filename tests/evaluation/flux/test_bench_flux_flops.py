"""`anystory bench flops --model flux`: what is counted is what the algebra says, and nothing more goes unnoticed."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from anystory.evaluation.bench.flux import calls
from anystory.evaluation.bench.flux.calls import Drawing, StepKind
from anystory.evaluation.bench.flux.flops import FluxCost, FluxFlopReport, count_flux_flops, measure
from anystory.evaluation.bench.flux.networks import FLUX, FluxNetworks
from anystory.evaluation.bench.flux.show import show_flux_flops
from anystory.evaluation.bench.show import as_json
from anystory.models.flux.state import Acting
from anystory.models.flux.streams import StreamBlock
from anystory.pipelines.flux import text_to_image
from evaluation.flux.tiny import SIDE, TINY_FLUX

STEPS = 25
KEPT = StepKind(Acting(references=True), computes=False)
COMPUTES = StepKind(Acting(references=True), computes=True)
APPEARANCES = StepKind(Acting(appearance=True, references=True), computes=False)

D, BLOCKS, S, TEXT = TINY_FLUX.width, 2, 36, TINY_FLUX.text_tokens
T, HALF = 16, 8
ATTENTION = 4 * D
"""FLOPs of one row and one key."""


@pytest.fixture(scope="module")
def report() -> FluxFlopReport:
    return count_flux_flops(sizes=TINY_FLUX, subjects=[0, 1, 3], steps=STEPS, sides=[SIDE])


@pytest.fixture(scope="module")
def networks() -> FluxNetworks:
    return FluxNetworks(sizes=TINY_FLUX, device=torch.device("meta"))


def row(report: FluxFlopReport, method: str, subjects: int, shown: float = 1.0) -> FluxCost:
    found = (r for r in report.rows if (r.method, r.subjects) == (method, subjects))
    return next(r for r in found if not subjects or r.shown == shown)


def step(cost: FluxCost, kind: StepKind) -> Any:
    return next(one for one in cost.steps if one.kind == kind.name)


def test_flux_is_flux():
    networks = FluxNetworks(sizes=FLUX, device=torch.device("meta"))
    adapter = networks.adapter
    assert sum(p.numel() for p in networks.transformer.parameters()) == 11_901_408_320
    for terms, each in ((adapter.reference_terms, 3_621_952), (adapter.routing_terms, 3_625_984)):
        assert len(terms.names()) == 343
        assert sum(p.numel() for p in terms.parameters()) == FLUX.rank * each
    adapter.check_fits(networks.transformer)


def test_the_windows_are_the_pipelines():
    assert text_to_image._APPEARANCE == (0.1, 0.3)
    assert (text_to_image._REFERENCES_OF_ONE, text_to_image._REFERENCES_OF_SEVERAL) == ((0.0, 1.0), (0.09, 1.0))
    several, one = calls.kinds_of(25, 2), calls.kinds_of(25, 1)
    nothing = StepKind(Acting(), computes=False)
    assert several == [nothing, nothing, COMPUTES, *[APPEARANCES] * 5, *[KEPT] * 17]
    assert one == [COMPUTES, KEPT, KEPT, *[APPEARANCES] * 5, *[KEPT] * 17]
    assert calls.kinds_of(8, 2)[1] == StepKind(Acting(appearance=True, references=True), computes=True)
    assert calls.kinds_of(3, 0) == [nothing] * 3


@pytest.mark.parametrize("method", ["stock", "fast", "plain", "official"])
def test_operations_are_those_that_torch_counts(method, networks):
    kinds = [StepKind(Acting(), computes=False)] if method == "stock" else [COMPUTES, KEPT, APPEARANCES]
    references = () if method == "stock" else calls.encoded_references(networks, 2, 0.5)
    drawing = Drawing(method, networks, SIDE, references)
    for kind in kinds:
        step = drawing.step(kind)
        found, _ = measure(step)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            step()
        assert counter.get_total_flops() == found


def test_building_the_networks_is_no_part_of_a_step():
    fresh = FluxNetworks(sizes=TINY_FLUX, device=torch.device("meta"))
    first, again = (
        measure(Drawing("fast", fresh, SIDE, calls.encoded_references(fresh, 1, 1.0)).step(COMPUTES)) for _ in range(2)
    )
    assert first == again


def routing(subjects: int) -> int:
    """A step's routing tokens by hand: 9 a subject, through all blocks as text."""
    rows, rank = 9 * subjects, TINY_FLUX.rank
    first = 2 * rows * TINY_FLUX.t5[0] * D + 2 * rows * rank * (TINY_FLUX.t5[0] + D)
    time = 2 * (256 * D + D * D) * 2 + 2 * (TINY_FLUX.clip[0] * D + D * D)
    double = 24 * rows * D * D + 2 * rows * rank * (4 * 2 * D + 5 * D) + 12 * D * D + 2 * rank * 7 * D
    single = 24 * rows * D * D + 2 * rows * rank * (3 * 2 * D + 5 * D + 6 * D) + 6 * D * D + 2 * rank * 4 * D
    attended = ATTENTION * rows * (S + rows)
    return first + time + double + single + BLOCKS * attended


def routing_map(subjects: int) -> int:
    """Of one block: queries, keys and logits."""
    rank = TINY_FLUX.map_rank
    queries = 9 * subjects * (2 * D * D + 4 * D * rank)
    return queries + S * 4 * D * rank + 2 * subjects * S * TINY_FLUX.head_dim


def test_a_fast_step_of_one_subject_adds_its_keys_only(report):
    for shown, tokens in ((1.0, T), (0.5, HALF)):
        added = step(row(report, "fast", 1, shown), KEPT).flops - row(report, "stock", 0).steps[0].flops
        assert added == BLOCKS * ATTENTION * (TEXT + S) * tokens


def test_an_official_step_costs_what_the_equations_say(report):
    stock = row(report, "stock", 0).steps[0].flops
    for number in (1, 3):
        keys = BLOCKS * ATTENTION * (TEXT + S) * T * number
        again = BLOCKS * S * 2 * D * D  # the picture's keys for the map
        added = keys + again + routing(number) + BLOCKS * routing_map(number)
        assert step(row(report, "official", number), KEPT).flops - stock == added


def test_a_fast_step_costs_at_most_what_the_equations_say(report):
    """Text reads all references, a pixel its owner's; the picture's keys are not projected again."""
    stock = row(report, "stock", 0).steps[0].flops
    for shown, tokens in ((1.0, T), (0.5, HALF)):
        keys = BLOCKS * ATTENTION * (TEXT * 3 + S) * tokens
        most = keys + routing(3) + BLOCKS * routing_map(3)
        added = step(row(report, "fast", 3, shown), KEPT).flops - stock
        assert keys + BLOCKS * S * 4 * D * TINY_FLUX.map_rank < added < most


def test_plain_and_official_cost_more_than_fast(report):
    fast, plain, official = (step(row(report, method, 3), KEPT).flops for method in ("fast", "plain", "official"))
    assert plain - fast == BLOCKS * ATTENTION * S * T * 2  # a pixel meets the keys of two more subjects
    assert official - plain >= BLOCKS * S * 2 * D * D


def test_an_operation_more_is_noticed(report, networks, monkeypatch):
    drawing = Drawing("fast", networks, SIDE, calls.encoded_references(networks, 3, 1.0))
    measure(drawing.step(COMPUTES))
    before = step(row(report, "fast", 3), KEPT).flops
    assert measure(drawing.step(KEPT))[0] == before
    advance = StreamBlock.enter

    def projected_once_more(block: StreamBlock, hidden: torch.Tensor, time: torch.Tensor) -> Any:
        networks.transformer.context_embedder(hidden[..., : TINY_FLUX.t5[0]])
        return advance(block, hidden, time)

    monkeypatch.setattr(StreamBlock, "enter", projected_once_more)
    assert measure(drawing.step(KEPT))[0] - before == BLOCKS * 2 * 27 * TINY_FLUX.t5[0] * D


def test_a_picture_is_the_sum_of_its_parts(report):
    stock = row(report, "stock", 0)
    around = stock.picture - STEPS * stock.steps[0].flops
    for one in report.rows:
        assert sum(each.count for each in one.steps) == STEPS
        assert one.picture == around + one.encode + sum(each.count * each.flops for each in one.steps)
        assert one.picture_over_stock == pytest.approx(one.picture / stock.picture - 1)
    assert row(report, "fast", 1).encode < row(report, "fast", 3).encode


def test_keys_and_values_are_what_is_kept_of_the_references(report):
    for method, shown, tokens in (("fast", 1.0, T), ("fast", 0.5, HALF), ("official", 1.0, T)):
        cost = row(report, method, 3, shown)
        assert cost.cached == BLOCKS * 3 * tokens * D * 2 * 2  # keys and values, bf16
        assert all(each.memory > cost.cached for each in cost.steps if each.kind.startswith("references kept"))


def test_the_dense_bias_is_memory(report):
    """Over all heads, rows and keys: the authors' form holds it, ours does not."""
    fast, official = row(report, "fast", 3), row(report, "official", 3)
    bias = TINY_FLUX.heads * (TEXT + S + 27) * (TEXT + S + 3 * T + 27) * 2
    assert step(official, KEPT).memory - step(fast, KEPT).memory > bias


def test_table_and_json_say_the_same(report):
    out = io.StringIO()
    show_flux_flops(report, Console(file=out, width=160))
    text = out.getvalue()
    assert "official" in text
    assert "nf4" in text
    assert f"{row(report, 'fast', 3).kept_over_stock:+.2%}" in text
    values = json.loads(as_json(report))
    assert [one["method"] for one in values["rows"]] == [one.method for one in report.rows]
    assert values["rows"][0]["picture"] == report.rows[0].picture


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subjects": [-1]}, "`subjects`"),
        ({"subjects": []}, "`subjects`"),
        ({"steps": 0}, "`steps`"),
        ({"shown": [0.0]}, "`shown`"),
        ({"shown": [1.5]}, "`shown`"),
    ],
)
def test_numbers_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        count_flux_flops(sizes=TINY_FLUX, **settings)
