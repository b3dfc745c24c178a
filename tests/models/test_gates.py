"""Gates: fixed maps, fixed regions, no router. The router's own decision is in test_routing_state.py."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from anystory.models import (
    Argmax,
    EncodedSubjects,
    Everywhere,
    FixedMaps,
    FixedRegions,
    Gumbel,
    RecordedMaps,
    SubjectConditioning,
)
from anystory.models.gates import Gate, allowed_slots
from anystory.models.routing_state import RoutingState
from models.tiny import LAYER, decide, encode, gate_after, logits, owned_by, ready, seeded


def box(size: tuple[int, int], top: int, bottom: int, left: int, right: int) -> Tensor:
    mask = torch.zeros(size)
    mask[top:bottom, left:right] = 1
    return mask


# Masks decide.


def test_fixed_maps_are_resized_and_made_one_hot(encoded):
    masks = torch.zeros(1, 3, 6, 6)
    owner = torch.randint(0, 3, (1, 1, 6, 6), generator=seeded(0))
    masks = (owner == torch.arange(3)[None, :, None, None]).float()
    routing = ready(encoded, gate=FixedMaps(masks))
    assert not routing.call.needs_router
    for pixels, side in ((64, 8), (16, 4), (4, 2)):
        small = F.interpolate(masks, (side, side), mode="bilinear", antialias=True)
        expected = F.one_hot(small.argmax(1), 3).movedim(-1, 1).float().flatten(2)
        assert torch.equal(decide(routing, pixels, None), expected)
        assert torch.equal(gate_after(routing, pixels), expected[:, :2])


def test_fixed_maps_may_be_boolean(encoded):
    routing = ready(encoded, gate=FixedMaps(owned_by(1).bool()))
    assert decide(routing, 16, None)[0].sum(1).tolist() == [0, 16, 0]


def test_recording_under_fixed_maps_records_what_the_router_thinks(encoded):
    record, (coarse, refined) = RecordedMaps(keep_graph=True), logits(16)
    routing = ready(encoded, gate=FixedMaps(owned_by(1)), record=record)
    assert routing.call.needs_router
    gate = decide(routing, 16, (coarse, refined))
    assert torch.equal(record.maps[LAYER].refined.flatten(2), refined.softmax(1))
    assert torch.equal(record.maps[LAYER].gate.flatten(2), gate)


@pytest.mark.parametrize(
    "masks",
    [torch.ones(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), owned_by(0)[:, :2], owned_by(0)[0], owned_by(0, batch=2)],
)
def test_fixed_maps_are_checked(encoded, masks):
    with pytest.raises(ValueError, match="maps must"):
        SubjectConditioning(encoded=encoded, gate=FixedMaps(masks))


def test_fixed_maps_cannot_give_pixels_to_padding(adapter):
    encoded = encode(adapter, 1, 2, present=torch.tensor([[True, False]]))
    SubjectConditioning(encoded=encoded, gate=FixedMaps(owned_by(0)))
    with pytest.raises(ValueError, match="maps must give every pixel to exactly one slot that is present"):
        SubjectConditioning(encoded=encoded, gate=FixedMaps(owned_by(1)))


# Regions.


def with_regions(
    encoded: EncodedSubjects, *regions: Tensor | None, gate: Gate | None = None, **changes: Any
) -> RoutingState:
    given = torch.tensor([[region is not None for region in regions]])
    masks = torch.stack([torch.full((8, 8), 0.3) if region is None else region for region in regions])[None]
    return ready(encoded, gate=FixedRegions(masks, given, gate or Argmax()), **changes)


def test_a_region_is_its_subjects_and_the_rest_is_not(encoded):
    inside = box((8, 8), 0, 8, 0, 4)
    for pixels in (64, 16, 4):
        maps = logits(pixels)
        routing = with_regions(encoded, inside, None)
        gate = decide(routing, pixels, maps)
        side = math.isqrt(pixels)
        expected = box((side, side), 0, side, 0, side // 2).flatten().bool()
        assert gate[0, 0].bool().tolist() == expected.tolist()
        for after in (64, 16, 4):
            side = math.isqrt(after)
            expected_after = box((side, side), 0, side, 0, side // 2).flatten().bool()
            assert gate_after(routing, after)[0, 0].bool().tolist() == expected_after.tolist()
        # The others compete for the rest as the router says.
        free = maps[1][0, 1:, ~expected].argmax(0)
        assert gate[0, 1:, ~expected].argmax(0).tolist() == free.tolist()


def test_overlapping_regions_are_settled_by_the_router(encoded):
    left, right = box((8, 8), 0, 8, 0, 5), box((8, 8), 0, 8, 3, 8)
    _, refined = maps = logits(64)
    gate = decide(with_regions(encoded, left, right), 64, maps)[0].unflatten(1, (8, 8))
    assert gate[0, :, :3].all()
    assert gate[1, :, 5:].all()
    assert not gate[2].any()
    expected = refined[0, :2].unflatten(1, (8, 8))[:, :, 3:5].argmax(0)
    assert gate[:2, :, 3:5].argmax(0).tolist() == expected.tolist()


def test_a_region_smaller_than_a_pixel_keeps_one(encoded):
    dot = box((8, 8), 5, 6, 2, 3)
    routing = with_regions(encoded, dot, None)
    assert decide(routing, 4, logits(4))[0, 0].tolist() == [0, 0, 1, 0]
    assert gate_after(routing, 64)[0, 0].nonzero().tolist() == [[5 * 8 + 2]]


def test_regions_hold_in_training_with_gradient(encoded):
    maps = logits(16)
    routing = with_regions(encoded, box((8, 8), 0, 8, 0, 4), None, gate=Gumbel(1.0, seeded(0)))
    gate = decide(routing, 16, maps)
    (gate.square() + gate).sum().backward()
    assert gate[0, 0].tolist() == [1, 1, 0, 0] * 4
    assert maps[1].grad is not None
    assert maps[1].grad.isfinite().all()


def test_recorded_gate_shows_the_region(encoded):
    record, maps = RecordedMaps(), logits(16)
    gate = decide(with_regions(encoded, box((8, 8), 0, 8, 0, 4), None, record=record), 16, maps)
    recorded = record.maps[LAYER]
    assert torch.equal(recorded.gate.flatten(2), gate)
    assert torch.equal(recorded.refined.flatten(2), maps[1].softmax(1))
    assert not any(t.requires_grad for t in (recorded.coarse, recorded.refined, recorded.gate))


def test_allowed_slots_leave_no_pixel_alone():
    regions = torch.rand(3, 4, 9, 7, generator=seeded(0))
    given = torch.rand(3, 4, generator=seeded(1)) > 0.5
    assert allowed_slots(regions, given, (5, 4)).any(1).all()


@pytest.mark.parametrize(
    ("regions", "given", "message"),
    [
        (torch.ones(1, 3, 8, 8), torch.ones(1, 2) > 0, "regions must be"),
        (torch.ones(2, 8, 8), torch.ones(1, 2) > 0, "regions must be"),
        (torch.ones(1, 2, 8, 8), torch.ones(1, 2), "given must be bool"),
        (torch.ones(1, 2, 8, 8), torch.ones(1, 3) > 0, "given must be bool"),
        (torch.full((1, 2, 8, 8), torch.nan), torch.ones(1, 2) > 0, "NaN"),
        (torch.zeros(1, 2, 8, 8), torch.ones(1, 2) > 0, "region of a subject in `given` is empty"),
    ],
)
def test_regions_are_checked(encoded, regions, given, message):
    with pytest.raises(ValueError, match=message):
        SubjectConditioning(encoded=encoded, gate=FixedRegions(regions, given))


def test_padding_cannot_have_a_region(adapter):
    encoded = encode(adapter, 1, 2, present=torch.tensor([[True, False]]))
    with pytest.raises(ValueError, match="given names a subject that is not present"):
        SubjectConditioning(encoded=encoded, gate=FixedRegions(torch.ones(1, 2, 8, 8), torch.ones(1, 2) > 0))


# No router, and what Gumbel refuses.


def test_everywhere_is_every_slot_that_is_present(adapter):
    encoded = encode(adapter, 1, 2, present=torch.tensor([[True, False]]))
    routing = ready(encoded, gate=Everywhere())
    assert not routing.call.needs_router
    assert decide(routing, 16, None)[0, :, 0].tolist() == [1, 0, 1]
    assert gate_after(routing, 4).tolist() == [[[1.0] * 4, [0.0] * 4]]


@pytest.mark.parametrize("temperature", [0.0, math.nan])
def test_gumbel_needs_a_temperature(temperature):
    with pytest.raises(ValueError, match="temperature must be greater than 0"):
        Gumbel(temperature)
