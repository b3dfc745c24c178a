from __future__ import annotations

import dataclasses
import io
import json

import pytest
import torch
from rich.console import Console
from torch import nn

from anystory.evaluation.bench import calls
from anystory.evaluation.bench.bar import Bar
from anystory.evaluation.bench.flops import FlopReport, count, count_flops
from anystory.evaluation.bench.ip_adapter import ip_adapter_installed
from anystory.evaluation.bench.networks import SDXL, Networks
from anystory.evaluation.bench.show import as_json, show_flops
from anystory.models.layout import AttentionLayer
from evaluation.bench_sizes import TINY
from models.tiny import SDXL_UNET

STEPS = 4


@pytest.fixture(scope="module")
def report() -> FlopReport:
    return count_flops(sizes=TINY, subjects=[0, 3], steps=STEPS)


def row(report: FlopReport, method: str, subjects: int):
    return next(row for row in report.rows if (row.method, row.subjects) == (method, subjects))


def test_counts_two_per_multiply_add():
    layer = nn.Linear(5, 7, bias=False, device="meta")
    assert count(lambda: layer(torch.empty(3, 5, device="meta"))) == 2 * 3 * 5 * 7


def test_sdxl_is_sdxl():
    ours = SDXL.unet
    assert {name: ours[name] for name in SDXL_UNET if name in ours} == {
        name: value for name, value in SDXL_UNET.items() if name in ours
    }
    assert (SDXL.picture, SDXL.reference_latent) == (1024, 64)


@pytest.mark.parametrize(("subjects", "foreground"), [(0, 0.5), (1, 0.5), (3, 0.5), (2, 1.0), (2, 0.0), (6, 0.5)])
def test_even_groups_are_a_layout(subjects, foreground):
    groups = calls.even_groups(subjects, 64, foreground, torch.device("cpu"))
    assert torch.equal(torch.cat([group.pixels for group in groups]), torch.arange(64))
    background = sum(len(group.pixels) for group in groups if group.slot == subjects)
    assert background == (64 if subjects == 0 else round(64 * (1 - foreground)))
    sizes = [len(group.pixels) for group in groups if group.slot < subjects]
    assert not sizes or max(sizes) - min(sizes) <= 1


def layers_and_pixels() -> list[tuple[AttentionLayer, int, int]]:
    """(layer, pixels, reference tokens) of the tiny U-Net."""
    networks = Networks(sizes=TINY, device=torch.device("meta"))
    sides = {64: (8, 4), 96: (4, 2)}
    return [(layer, sides[layer.dim][0] ** 2, sides[layer.dim][1] ** 2) for layer in networks.adapter.layers]


def test_a_fast_step_costs_what_the_algebra_says(report):
    """Added to a stock step, by hand: the subjects' tokens, the references, the absorbed router; less the prompt."""
    size, subjects = TINY.adapter, 3
    slots, heads, dk, dr = subjects + 1, size.router_heads, size.router_dim, size.routing_dim
    added = prompt = 0
    for i, (layer, pixels, tokens) in enumerate(layers_and_pixels()):
        d, inner = layer.dim, layer.inner_dim
        added += 2 * 4 * pixels * inner * size.subject_tokens  # both halves; queries meet 3 tokens, then their values
        prompt += 2 * 2 * 2 * TINY.text_tokens * size.token_dim * inner  # both halves; keys and values
        if i > 0:
            added += 4 * (pixels // 2) * inner * tokens  # half of the pixels have an owner
        # coarse logits and folded queries, values before projection, refined logits
        added += 2 * pixels * d * (slots * (1 + heads) + slots * heads + slots)
        # the slots' own projections: values, to_out, refined slot, folding the refined map
        added += 2 * slots * (d * dk + dk * dr + dr * dk + dk * d)
    fast = row(report, "fast", 3)
    assert fast.step - report.stock.step == added - prompt
    # The first step projects the prompt, and folds the router's weights into the slots: coarse slot and map, queries
    # and keys.
    folds = sum(2 * slots * (dr * dk + dk * layer.dim) * 2 for layer, _, _ in layers_and_pixels())
    assert fast.first_step - fast.step == folds + prompt


def test_without_a_cache_every_step_projects_the_prompt(report):
    fast, again = row(report, "fast", 3), row(report, "fast, prompt in every step", 3)
    prompt = sum(
        2 * 2 * 2 * TINY.text_tokens * TINY.adapter.token_dim * layer.inner_dim for layer, *_ in layers_and_pixels()
    )
    assert (again.first_step, again.encode) == (fast.first_step, fast.encode)
    assert again.step - fast.step == prompt
    networks = Networks(sizes=TINY, device=torch.device("meta"))
    carried = {"subject_conditioning": calls.conditioning(calls.encoded_subjects(networks, 3, True))}
    steps = [calls.unet_call(networks, cross_attention_kwargs=carried) for _ in range(2)]  # each with its own prompt
    with networks.adapter.installed_on(networks.unet):
        assert [count(step) for step in steps] == [again.first_step, again.step]
    keeping = report.stock_keeping
    assert keeping.first_step == report.stock.step
    assert report.stock.picture - keeping.picture == (STEPS - 1) * prompt


def test_the_plain_step_costs_what_the_equations_say(report):
    size, subjects = TINY.adapter, 3
    slots, dk, dr = subjects + 1, size.router_dim, size.routing_dim
    added = 0
    for i, (layer, pixels, tokens) in enumerate(layers_and_pixels()):
        d, inner = layer.dim, layer.inner_dim
        added += 2 * 4 * pixels * inner * size.subject_tokens * slots  # both halves, every slot
        added += 4 * slots * size.subject_tokens * size.token_dim * inner  # keys and values of the tokens, each step
        if i > 0:
            added += 2 * 4 * pixels * inner * subjects * tokens + 4 * subjects * tokens * d * inner
        # router on the conditional half: pixels' four projections, slots' four, two maps, one attention
        added += 2 * 4 * pixels * d * dk + 2 * 4 * slots * dr * dk + (2 + 2) * 2 * slots * pixels * dk
    assert row(report, "plain", 3).step - report.stock.step == added


def test_a_picture_is_the_sum_of_its_parts(report):
    for one in report.rows:
        drawn = one.first_step + (STEPS - 1) * one.step
        assert one.picture - one.second_picture == one.encode
        assert one.second_picture - drawn == report.stock.picture - STEPS * report.stock.step > 0
        assert one.picture_over_stock == pytest.approx(one.picture / report.stock.picture - 1)
        assert one.step_over_stock == pytest.approx(drawn / (STEPS * report.stock.step) - 1)


def test_no_subject_costs_nothing(report):
    for method in ("plain", "fast"):
        none = row(report, method, 0)
        assert (none.encode, none.step_over_stock, none.picture_over_stock) == (0, 0, 0)


def test_ip_adapter_is_counted_and_leaves_no_trace(report):
    three = row(report, "IP-Adapter-Plus", 3)
    size, rows = TINY.adapter, 2
    attended = sum(4 * rows * pixels * layer.inner_dim * 16 * 3 for layer, pixels, _ in layers_and_pixels())
    projected = sum(4 * rows * 3 * 16 * size.token_dim * layer.inner_dim for layer, _, _ in layers_and_pixels())
    # diffusers runs its image projection at every step; it is what is left.
    assert three.step - report.stock.step > attended + projected
    networks = Networks(sizes=TINY, device=torch.device("meta"))
    before = dict(networks.unet.attn_processors)
    with pytest.raises(RuntimeError), ip_adapter_installed(networks):
        raise RuntimeError
    assert networks.unet.attn_processors == before
    assert networks.unet.encoder_hid_proj is None
    assert networks.unet.config["encoder_hid_dim_type"] is None


def test_pruning_is_counted(report):
    net = report.reference_net
    assert net.pruned < net.whole < net.unet
    assert net.ratio == net.pruned / net.unet


def test_table_and_json_say_the_same(report):
    out = io.StringIO()
    show_flops(dataclasses.replace(report, bars=[Bar(name="step, N = 2", value=0.03, limit=0.02)]), Console(file=out))
    text = out.getvalue()
    assert "IP-Adapter-Plus" in text
    assert "missed" in text
    values = json.loads(as_json(report))
    assert [one["method"] for one in values["rows"]] == [one.method for one in report.rows]
    assert values["stock"]["picture"] == report.stock.picture
    assert all(bar["met"] == (bar["value"] <= bar["limit"]) for bar in values["bars"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subjects": [-1]}, "`subjects`"),
        ({"subjects": []}, "`subjects`"),
        ({"steps": 0}, "`steps`"),
        ({"foreground": 1.5}, "`foreground`"),
    ],
)
def test_numbers_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        count_flops(sizes=TINY, **settings)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # counts for minutes on a busy machine
def test_sdxl_keeps_its_bars():
    """docs/cost.md has the whole table."""
    report = count_flops(subjects=[2, 6])
    assert report.stock.step == pytest.approx(2 * 6.76e12, rel=1e-3)
    assert report.reference_net.unet == pytest.approx(1.59e12, rel=2e-3)
    assert report.reference_net.whole == pytest.approx(1.41e12, rel=2e-3)
    first = "picture with encoding, N = 6"
    assert [bar.name for bar in report.bars if not bar.met] == [
        f"{first}, prompt in every step",
        f"{first}, if the stock pipeline kept its prompt too",
    ]
