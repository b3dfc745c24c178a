from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from anystory.models import EncodedSubjects, SubjectConditioning
from anystory.models.regions import allowed_slots
from models.tiny import encode, owned_by, seeded

LAYER = "some.attn2"


@pytest.fixture
def encoded(adapter) -> EncodedSubjects:
    with torch.no_grad():
        return encode(adapter, 1, 2)


def ready(encoded: EncodedSubjects, size: tuple[int, int] = (8, 8), **changes: Any) -> SubjectConditioning:
    cond = SubjectConditioning(encoded=encoded, **changes)
    cond.begin(size)
    return cond


def logits(pixels: int, slots: int = 3, batch: int = 1) -> tuple[Tensor, Tensor]:
    coarse, refined = 2 * torch.randn(2, batch, slots, pixels, generator=seeded(5))
    return coarse, refined.requires_grad_()


def box(size: tuple[int, int], top: int, bottom: int, left: int, right: int) -> Tensor:
    mask = torch.zeros(size)
    mask[top:bottom, left:right] = 1
    return mask


# Sizes.


@pytest.mark.parametrize(
    ("latent", "pixels", "expected"),
    [((8, 8), 64, (8, 8)), ((8, 8), 4, (2, 2)), ((10, 14), 35, (5, 7)), ((10, 14), 12, (3, 4)), ((7, 2), 2, (2, 1))],
)
def test_map_size_is_the_latents_halved_with_rounding_up(encoded, latent, pixels, expected):
    assert ready(encoded, latent).map_size(pixels) == expected


def test_unknown_sizes_are_named(encoded):
    with pytest.raises(ValueError, match=r"a layer of 5 pixels is not \(8, 8\) halved"):
        ready(encoded).map_size(5)
    with pytest.raises(RuntimeError, match="installed_on"):
        SubjectConditioning(encoded=encoded).map_size(4)


# The router decides.


def test_gate_is_sigma_of_the_refined_map(encoded):
    coarse, refined = logits(16)
    gate = ready(encoded).decide(LAYER, 16, (coarse, refined))
    assert torch.equal(gate, F.one_hot(refined.argmax(1), 3).movedim(-1, 1).float())


def test_self_attention_of_the_same_size_sees_the_same_gate(encoded):
    cond = ready(encoded, gumbel_temperature=1.0, generator=seeded(0))
    gate = cond.decide(LAYER, 16, logits(16))
    assert torch.equal(cond.gate_after(LAYER, 16), gate[:, :2])


@pytest.mark.parametrize(("pixels", "target", "size"), [(16, 4, (2, 2)), (4, 16, (4, 4)), (4, 64, (8, 8))])
def test_self_attention_of_another_size_sees_the_resized_map(encoded, pixels, target, size):
    """D7: bilinear and antialiased on the probabilities, then argmax."""
    cond, (coarse, refined) = ready(encoded), logits(pixels)
    cond.decide(LAYER, pixels, (coarse, refined))
    side = math.isqrt(pixels)
    maps = F.interpolate(refined.softmax(1).unflatten(2, (side, side)), size, mode="bilinear", antialias=True)
    expected = F.one_hot(maps.argmax(1), 3).movedim(-1, 1).float()
    assert torch.equal(cond.gate_after(LAYER, target), expected[:, :2].flatten(2))


def test_training_gradient_reaches_the_map_through_the_resize(encoded):
    cond, (coarse, refined) = ready(encoded, gumbel_temperature=1.0, generator=seeded(0)), logits(16)
    cond.decide(LAYER, 16, (coarse, refined))
    gate = cond.gate_after(LAYER, 64)
    assert set(gate.unique().tolist()) == {0.0, 1.0}
    (gate * torch.randn(gate.shape, generator=seeded(1))).sum().backward()
    assert refined.grad is not None
    assert (refined.grad != 0).all()
    assert refined.grad.isfinite().all()


def test_a_certain_map_resizes_without_nan(encoded):
    cond, refined = ready(encoded, gumbel_temperature=1.0, generator=seeded(0)), logits(16)[1]
    certain = refined * 1e4
    cond.decide(LAYER, 16, (certain, certain))
    cond.gate_after(LAYER, 4).sum().backward()
    assert refined.grad is not None
    assert refined.grad.isfinite().all()


def test_padding_owns_no_pixel_at_any_size(adapter):
    encoded = encode(adapter, 1, 2, present=torch.tensor([[True, False]]))
    cond = ready(encoded, gumbel_temperature=1.0, generator=seeded(0))
    coarse, refined = (
        part.masked_fill(torch.tensor([False, True, False])[None, :, None], -math.inf) for part in logits(16)
    )
    assert not cond.decide(LAYER, 16, (coarse, refined))[:, 1].any()
    for pixels in (4, 16, 64):
        assert not cond.gate_after(LAYER, pixels)[:, 1].any()


def test_gumbel_noise_is_the_callers_and_stays_for_a_repeated_layer(encoded):
    maps = logits(16)
    first, second = (ready(encoded, gumbel_temperature=1.0, generator=seeded(0)) for _ in range(2))
    gate = first.decide(LAYER, 16, maps)
    assert torch.equal(gate, second.decide(LAYER, 16, maps))
    assert torch.equal(gate, first.decide(LAYER, 16, maps))  # gradient checkpointing runs it again
    assert not torch.equal(gate, first.decide("another.attn2", 16, maps))


# Masks decide.


def test_gate_masks_are_resized_and_made_one_hot(encoded):
    masks = torch.zeros(1, 3, 6, 6)
    owner = torch.randint(0, 3, (1, 1, 6, 6), generator=seeded(0))
    masks = (owner == torch.arange(3)[None, :, None, None]).float()
    cond = ready(encoded, gate_masks=masks)
    assert not cond.needs_router
    for pixels, side in ((64, 8), (16, 4), (4, 2)):
        small = F.interpolate(masks, (side, side), mode="bilinear", antialias=True)
        expected = F.one_hot(small.argmax(1), 3).movedim(-1, 1).float().flatten(2)
        assert torch.equal(cond.decide(LAYER, pixels, None), expected)
        assert torch.equal(cond.gate_after(LAYER, pixels), expected[:, :2])


def test_gate_masks_may_be_boolean(encoded):
    cond = ready(encoded, gate_masks=owned_by(1).bool())
    assert cond.decide(LAYER, 16, None)[0].sum(1).tolist() == [0, 16, 0]


def test_recording_under_gate_masks_records_what_the_router_thinks(encoded):
    cond, (coarse, refined) = ready(encoded, gate_masks=owned_by(1), record="loss"), logits(16)
    assert cond.needs_router
    gate = cond.decide(LAYER, 16, (coarse, refined))
    assert torch.equal(cond.maps[LAYER].refined.flatten(2), refined.softmax(1))
    assert torch.equal(cond.maps[LAYER].gate.flatten(2), gate)


@pytest.mark.parametrize(
    "masks",
    [torch.ones(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), owned_by(0)[:, :2], owned_by(0)[0], owned_by(0, batch=2)],
)
def test_gate_masks_are_checked(encoded, masks):
    with pytest.raises(ValueError, match="gate_masks must"):
        SubjectConditioning(encoded=encoded, gate_masks=masks)


def test_gate_masks_cannot_give_pixels_to_padding(adapter):
    encoded = encode(adapter, 1, 2, present=torch.tensor([[True, False]]))
    SubjectConditioning(encoded=encoded, gate_masks=owned_by(0))
    with pytest.raises(ValueError, match="gate_masks must give every pixel to exactly one slot that is present"):
        SubjectConditioning(encoded=encoded, gate_masks=owned_by(1))


# Regions.


def with_regions(encoded: EncodedSubjects, *regions: Tensor | None, **changes: Any) -> SubjectConditioning:
    given = torch.tensor([[region is not None for region in regions]])
    masks = torch.stack([torch.full((8, 8), 0.3) if region is None else region for region in regions])[None]
    return ready(encoded, regions=masks, region_given=given, **changes)


def test_a_region_is_its_subjects_and_the_rest_is_not(encoded):
    inside = box((8, 8), 0, 8, 0, 4)
    for pixels in (64, 16, 4):
        maps = logits(pixels)
        cond = with_regions(encoded, inside, None)
        gate = cond.decide(LAYER, pixels, maps)
        side = math.isqrt(pixels)
        expected = box((side, side), 0, side, 0, side // 2).flatten().bool()
        assert gate[0, 0].bool().tolist() == expected.tolist()
        for after in (64, 16, 4):
            side = math.isqrt(after)
            expected_after = box((side, side), 0, side, 0, side // 2).flatten().bool()
            assert cond.gate_after(LAYER, after)[0, 0].bool().tolist() == expected_after.tolist()
        # The others compete for the rest as the router says.
        free = maps[1][0, 1:, ~expected].argmax(0)
        assert gate[0, 1:, ~expected].argmax(0).tolist() == free.tolist()


def test_overlapping_regions_are_settled_by_the_router(encoded):
    left, right = box((8, 8), 0, 8, 0, 5), box((8, 8), 0, 8, 3, 8)
    _, refined = maps = logits(64)
    gate = with_regions(encoded, left, right).decide(LAYER, 64, maps)[0].unflatten(1, (8, 8))
    assert gate[0, :, :3].all()
    assert gate[1, :, 5:].all()
    assert not gate[2].any()
    expected = refined[0, :2].unflatten(1, (8, 8))[:, :, 3:5].argmax(0)
    assert gate[:2, :, 3:5].argmax(0).tolist() == expected.tolist()


def test_a_region_smaller_than_a_pixel_keeps_one(encoded):
    dot = box((8, 8), 5, 6, 2, 3)
    cond = with_regions(encoded, dot, None)
    assert cond.decide(LAYER, 4, logits(4))[0, 0].tolist() == [0, 0, 1, 0]
    assert cond.gate_after(LAYER, 64)[0, 0].nonzero().tolist() == [[5 * 8 + 2]]


def test_regions_hold_in_training_with_gradient(encoded):
    maps = logits(16)
    cond = with_regions(encoded, box((8, 8), 0, 8, 0, 4), None, gumbel_temperature=1.0, generator=seeded(0))
    gate = cond.decide(LAYER, 16, maps)
    (gate.square() + gate).sum().backward()
    assert gate[0, 0].tolist() == [1, 1, 0, 0] * 4
    assert maps[1].grad is not None
    assert maps[1].grad.isfinite().all()


def test_recorded_gate_shows_the_region(encoded):
    cond, maps = with_regions(encoded, box((8, 8), 0, 8, 0, 4), None, record="pictures"), logits(16)
    gate = cond.decide(LAYER, 16, maps)
    recorded = cond.maps[LAYER]
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
        (torch.ones(1, 2, 8, 8), None, "regions and region_given must be given together"),
        (None, torch.ones(1, 2) > 0, "regions and region_given must be given together"),
        (torch.ones(1, 3, 8, 8), torch.ones(1, 2) > 0, "regions must be"),
        (torch.ones(2, 8, 8), torch.ones(1, 2) > 0, "regions must be"),
        (torch.ones(1, 2, 8, 8), torch.ones(1, 2), "region_given must be bool"),
        (torch.ones(1, 2, 8, 8), torch.ones(1, 3) > 0, "region_given must be bool"),
        (torch.full((1, 2, 8, 8), torch.nan), torch.ones(1, 2) > 0, "NaN"),
        (torch.zeros(1, 2, 8, 8), torch.ones(1, 2) > 0, "region of a subject in region_given is empty"),
    ],
)
def test_regions_are_checked(encoded, regions, given, message):
    with pytest.raises(ValueError, match=message):
        SubjectConditioning(encoded=encoded, regions=regions, region_given=given)


def test_padding_cannot_have_a_region(adapter):
    encoded = encode(adapter, 1, 2, present=torch.tensor([[True, False]]))
    with pytest.raises(ValueError, match="region_given names a subject that is not present"):
        SubjectConditioning(encoded=encoded, regions=torch.ones(1, 2, 8, 8), region_given=torch.ones(1, 2) > 0)


# Strengths and the rest.


def test_scales_can_change_between_steps(encoded):
    cond = SubjectConditioning(encoded=encoded)
    assert cond.slot_scales().tolist() == [[1, 1, 1]]
    cond.set_step_scales(scales=torch.tensor([[0, 2]]))
    assert cond.slot_scales().tolist() == [[0, 2, 1]]
    assert cond.reference_bias().tolist() == [[0, 0]]
    cond.set_step_scales(reference_scales=torch.tensor([[0.0, math.e]]))
    torch.testing.assert_close(cond.reference_bias(), torch.tensor([[-math.inf, 1.0]]))
    assert cond.slot_scales().tolist() == [[0, 2, 1]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scales": torch.ones(2)}, "scales must be"),
        ({"scales": torch.tensor([[1.0, torch.nan]])}, "scales must be finite"),
        ({"reference_scales": torch.ones(1, 3)}, "reference_scales must be"),
        ({"reference_scales": torch.tensor([[1.0, -0.1]])}, "reference_scales must be at least 0"),
        ({"gumbel_temperature": 0.0}, "gumbel_temperature must be greater than 0"),
        ({"gumbel_temperature": math.nan}, "gumbel_temperature must be greater than 0"),
        ({"unconditional": "none"}, "unconditional must be 'empty' or 'base'"),
        ({"use_router": False, "record": "pictures"}, "no masks or regions to obey and no maps to record"),
        ({"record": "all"}, "record must be None, 'loss' or 'pictures'"),
    ],
)
def test_values_are_checked(encoded, changes, message):
    with pytest.raises(ValueError, match=message):
        SubjectConditioning(encoded=encoded, **changes)


def test_a_new_call_leaves_the_old_maps_to_who_holds_them(encoded):
    cond = ready(encoded, record="pictures")
    cond.decide(LAYER, 16, logits(16))
    held = cond.maps
    cond.begin((8, 8))
    assert cond.maps == {}
    assert list(held) == [LAYER]


def test_keys_and_values_are_remembered_only_without_gradient(encoded):
    cond, built = ready(encoded), []

    def build() -> tuple[Tensor, Tensor]:
        built.append(1)
        return torch.zeros(1), torch.zeros(1)

    cond.cached(LAYER, build)
    cond.cached(LAYER, build)
    with torch.no_grad():
        cond.cached(LAYER, build)
        cond.cached(LAYER, build)
    assert len(built) == 3
