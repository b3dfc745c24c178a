"""The routing record by itself, on maps that are written by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anystory.models.router import RoutingMaps
from anystory.pipelines.routing_record import RoutingRecord


def probabilities(owner: list[list[list[int]]], slots: int, certainty: float = 0.8) -> torch.Tensor:
    """(B, S, h, w) maps in which `owner` (B, h, w) has the given probability and the rest share what is left."""
    won = torch.nn.functional.one_hot(torch.tensor(owner), slots).permute(0, 3, 1, 2).float()
    return won * certainty + (1 - won) * (1 - certainty) / (slots - 1)


def maps(owner: list[list[list[int]]], slots: int = 3, gate: list[list[list[int]]] | None = None) -> RoutingMaps:
    refined = probabilities(owner, slots)
    return RoutingMaps(coarse=refined.flip(1), refined=refined, gate=probabilities(gate or owner, slots, certainty=1.0))


@pytest.fixture
def record() -> RoutingRecord:
    """Two pictures with two slots and one, two steps, two layers of 2 × 2 and 1 × 1."""
    record = RoutingRecord([["fox", "robot"], ["fox"]], height=4, width=8)
    for step, timestep in ((0, 999.0), (3, 10.0)):
        first = maps([[[0, 1], [2, 2]], [[0, 0], [2, 2]]])
        second = maps([[[2]], [[0]]])
        record.add(step, timestep, {"down": first, "mid": second})
    return record


def test_what_it_holds(record):
    assert record.layers == ("down", "mid")
    assert record.steps == (0, 3)
    assert record.timesteps == (999.0, 10.0)
    assert record.num_images == 2
    assert repr(record) == "RoutingRecord(2 images, 2 steps, 2 layers)"


def test_maps_are_looked_up_by_name_and_index(record):
    everything = record.maps(0, "down")
    assert everything.shape == (3, 2, 2)
    assert everything.dtype == np.float32
    for slot in ("robot", 1, -2):
        assert np.array_equal(record.maps(-1, 0, slot), everything[1])
    assert np.array_equal(record.maps(3, -2, "background"), everything[2])
    np.testing.assert_allclose(everything[0], [[0.8, 0.1], [0.1, 0.1]], atol=1e-3)
    np.testing.assert_allclose(record.maps(0, "down", "fox", refined=False)[1], [0.8, 0.8], atol=1e-3)


def test_padding_is_not_a_slot(record):
    assert record.maps(0, "down", image=1).shape == (2, 2, 2)
    assert record.masks(image=1).shape == (1, 4, 8)
    np.testing.assert_allclose(record.maps(0, "down", "background", image=1)[1], [0.8, 0.8], atol=1e-3)


def test_mean_is_over_resized_layers_by_their_pixels(record):
    alone = record.mean(layers=["mid"])
    assert alone.shape == (3, 4, 8)
    np.testing.assert_allclose(alone[2], 0.8, atol=1e-3)
    np.testing.assert_allclose(record.mean(), (alone + 4 * record.mean(layers=[0])) / 5, atol=1e-6)
    np.testing.assert_allclose(record.mean().sum(axis=0), 1, atol=2e-3)


def test_masks_share_out_the_pixels(record):
    fox, robot = record.masks(layers=["down"])
    assert fox.dtype == bool
    assert fox[0, 0]
    assert robot[0, -1]
    assert not (fox & robot).any()
    assert not fox[-1].any()
    assert record.masks((6, 6), 0).shape == (2, 6, 6)
    images = record.mask_images((6, 10), image=1)
    assert [image.size for image in images] == [(10, 6)]
    assert set(np.unique(np.asarray(images[0]))) <= {0, 255}


def test_where_a_region_ruled_the_refined_map_says_so():
    record = RoutingRecord([["fox", "robot"]], 2, 2)
    record.add(0, 1.0, {"mid": maps([[[0, 0], [0, 2]]], gate=[[[0, 1], [1, 2]]])})
    np.testing.assert_allclose(record.maps(slot="robot"), [[0.1, 1], [1, 0.1]], atol=1e-3)
    np.testing.assert_allclose(record.maps(slot="fox"), [[0.8, 0], [0, 0.1]], atol=1e-3)


def test_the_record_is_a_copy_on_the_cpu_in_half_precision():
    given = maps([[[0]]])
    record = RoutingRecord([["fox", "robot"]], 2, 2)
    record.add(0, 1.0, {"mid": given})
    given.refined.zero_()
    np.testing.assert_allclose(record.maps(slot=0), 0.8, atol=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.maps(step=1), r"`step` must be one of the recorded steps \(0, 3\).*got 1"),
        (lambda r: r.maps(step=-3), r"`step`.*got -3"),
        (lambda r: r.maps(layer="up"), r"`layer` must be one of \('down', 'mid'\), got 'up'"),
        (lambda r: r.maps(layer=2), r"`layer` must be an index into the 2 layers, got 2"),
        (lambda r: r.maps(slot="cat"), r"`slot` must name exactly one of.*got 'cat'"),
        (lambda r: r.maps(slot=3), r"`slot` must be an index into.*got 3"),
        (lambda r: r.maps(slot="robot", image=1), r"`slot`.*got 'robot'"),
        (lambda r: r.masks(image=2), r"`image` must be an index into the 2 pictures, got 2"),
        (lambda r: r.mean(layers=[]), r"`layers` must name at least one layer"),
    ],
)
def test_what_it_does_not_hold(record, call, message):
    with pytest.raises(ValueError, match=message):
        call(record)
