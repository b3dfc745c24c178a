"""The routing sheet shows the maps that the record holds, where its captions say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from anystory.engine.sheets import routing_sheet as module
from anystory.engine.sheets.routing_sheet import colour_map, evenly, routing_sheet, short_layer_name
from anystory.models.router import RoutingMaps
from anystory.page_layout import text
from anystory.pipelines.routing_record import RoutingRecord
from anystory.segment.tints import SLOT_COLOURS, overlay

LAYERS = ("down_blocks.1.attentions.0.transformer_blocks.0.attn2", "mid_block.attentions.0.transformer_blocks.1.attn2")


def halves(left: float) -> RoutingMaps:
    """One picture, one subject that owns the left half with probability `left` and nothing of the right half."""
    subject = torch.zeros(1, 1, 8, 8)
    subject[..., :4] = left
    maps = torch.cat([subject, 1 - subject], dim=1)
    return RoutingMaps(coarse=maps, refined=maps, gate=maps.round())


def record(steps: int = 3) -> RoutingRecord:
    routing = RoutingRecord([("fox",)], 64, 64)
    for step in range(steps):
        routing.add(step, 999 - step, {LAYERS[0]: halves(1.0), LAYERS[1]: halves(1.0)})
    return routing


def count(page: Image.Image, colour: tuple[int, ...]) -> int:
    return int((np.asarray(page) == colour).all(axis=-1).sum())


def test_every_step_and_layer_is_on_the_page():
    picture = Image.new("RGB", (64, 64), (1, 2, 3))
    certain = tuple(np.asarray(colour_map(np.ones((1, 1))))[0, 0])
    pages = {steps: routing_sheet(picture, record(steps)) for steps in (1, 2, 4)}
    # Each further step shows a map for the subject and one for the background, each certain in nearly one half.
    grown = [count(pages[b], certain) - count(pages[a], certain) for a, b in ((1, 2), (2, 4))]
    assert grown[0] == pytest.approx(96 * 96, rel=0.15)
    assert grown[1] == 2 * grown[0]
    # The layers' block: two layers of 64 pixels, two rows each.
    rest = count(pages[1], certain) - grown[0]
    assert rest == pytest.approx(2 * 64 * 64, rel=0.02)


def owners(region: bool = False) -> RoutingRecord:
    """What FLUX.1's router leaves: two subjects that share all pixels, or leave the lowest row to nobody."""
    maps = torch.zeros(1, 3, 8, 8)
    maps[:, 0, :, :4], maps[:, 1, :, 4:] = 1, 1
    if region:
        maps[:, :2, -1], maps[:, 2, -1] = 0, 1
    routing = RoutingRecord([("fox", "robot")], 64, 64)
    one = RoutingMaps(coarse=maps, refined=maps, gate=maps)
    routing.add(0, 999, {"transformer_blocks.0": one, "single_transformer_blocks.12": one})
    return routing


def test_owner_maps_have_a_row_for_each_subject_and_for_a_background_that_owns_something(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(module, "text", lambda line, **how: lines.append(line) or text(line, **how))
    picture = Image.new("RGB", (64, 64), (1, 2, 3))
    certain = tuple(np.asarray(colour_map(np.ones((1, 1))))[0, 0])
    pages = {region: routing_sheet(picture, owners(region)) for region in (False, True)}
    assert lines.count("background") == 2  # one in each block of the second page
    assert lines.count("share of layers  0") == 2
    assert {"Owner maps at sampling steps, mean over layers", "double 0", "single 12"} <= set(lines)
    per_row = 96 * 96 / 2 + 2 * 64 * 64 / 2
    assert count(pages[False], certain) == pytest.approx(2 * per_row, rel=0.15)
    assert pages[True].height == pages[False].height + (96 + 4) + (64 + 4)


def test_probabilities_are_told_from_owners(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(module, "text", lambda line, **how: lines.append(line) or text(line, **how))
    routing = RoutingRecord([("fox",)], 64, 64)
    routing.add(0, 999, {LAYERS[0]: halves(0.75)})
    routing_sheet(Image.new("RGB", (64, 64)), routing)
    assert lines.count("background") == 2
    assert {"probability  0", "Routing maps at sampling steps, mean over layers"} <= set(lines)


def test_the_overlay_tints_what_a_subject_owns():
    picture = Image.new("RGB", (8, 8), (100, 100, 100))
    mask = np.zeros((1, 8, 8), bool)
    mask[0, :, :4] = True
    tinted = np.asarray(overlay(picture, mask, strength=0.5)).astype(int)
    assert (tinted[:, 4:] == 100).all()
    np.testing.assert_allclose(tinted[0, 0], (100 + np.array(SLOT_COLOURS[0])) / 2, atol=1)


def test_colours_run_from_dark_to_light():
    ramp = np.asarray(colour_map(np.linspace(0, 1, 64)[None])).sum(axis=-1)[0].astype(int)
    assert ramp[0] == ramp.min()
    assert (np.diff(ramp[8:]) >= 0).all()


@pytest.mark.parametrize(("most", "expected"), [(1, [9]), (2, [0, 9]), (4, [0, 3, 6, 9]), (50, list(range(10)))])
def test_steps_are_spread_evenly(most, expected):
    assert evenly(range(10), most) == expected


def test_layer_names_are_short():
    assert [short_layer_name(name) for name in LAYERS] == ["down 1.0.0", "mid 0.1"]


def test_seventy_layers_a_long_prompt_and_many_subjects_fit():
    routing = RoutingRecord([("a", "b", "a very long name of a subject", "d")], 48, 64)
    maps = torch.rand(1, 5, 6, 8)
    maps = RoutingMaps(coarse=maps, refined=maps, gate=maps)
    layers = {f"up_blocks.{i // 10}.attentions.{i % 10}.transformer_blocks.0.attn2": maps for i in range(70)}
    routing.add(0, 999.0, layers)
    page = routing_sheet(Image.new("RGB", (64, 48)), routing, title="a word and another " * 30)
    assert page.width < 1100


def test_a_record_without_steps_is_refused():
    with pytest.raises(ValueError, match="record_routing"):
        routing_sheet(Image.new("RGB", (64, 64)), RoutingRecord([("fox",)], 64, 64))
