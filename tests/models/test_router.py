from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from anystory.models import Router, RoutingMaps, routing_loss
from anystory.models.configs import MapProjections
from anystory.models.router import gumbel_noise, map_logits, mask_absent, one_hot, owner_mask, sigma
from models.tiny import seeded

ALL = torch.ones(2, 3, dtype=torch.bool)


def make_router(scale: float = 1.0, map_projections: MapProjections = "separate") -> Router:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        router = Router(dim=16, routing_dim=10, router_dim=8, heads=2, map_projections=map_projections)
        for parameter in router.parameters():
            torch.nn.init.normal_(parameter, std=scale)
    return router


def inputs() -> tuple[Tensor, Tensor]:
    generator = seeded(1)
    return torch.randn(2, 3, 10, generator=generator), torch.randn(2, 12, 16, generator=generator)


# The equations, against loops.


def test_map_is_the_scaled_inner_product():
    slots, pixels = torch.randn(2, 3, 8, generator=seeded(0)), torch.randn(2, 12, 8, generator=seeded(1))
    logits = map_logits(slots, pixels)
    for b, s, p in [(0, 0, 0), (1, 2, 11), (0, 1, 5)]:
        assert logits[b, s, p].item() == pytest.approx(float(slots[b, s] @ pixels[b, p]) / math.sqrt(8), abs=1e-6)


def test_masked_cross_attention_sees_its_area_only():
    router = make_router()
    routing, states = inputs()
    area = torch.rand(2, 3, 12, generator=seeded(2)) > 0.6
    area[:, :, 0] = True
    refined = router.refine(routing, states, area)
    for b in range(2):
        for s in range(3):
            seen = states[b][area[b, s]]
            heads = []
            for head in (slice(0, 4), slice(4, 8)):
                query = router.to_q(routing[b, s])[head]
                shares = (router.to_k(seen)[:, head] @ query / 2).softmax(0)
                heads.append(shares @ router.to_v(seen)[:, head])
            expected = F.layer_norm(
                routing[b, s] + router.to_out(torch.cat(heads)), (10,), router.norm.weight, router.norm.bias
            )
            torch.testing.assert_close(refined[b, s], expected)


def test_router_is_coarse_map_attention_refined_map():
    router = make_router()
    routing, states = inputs()
    coarse, refined = router(routing, states, ALL)
    expected = router.coarse_slot(routing) @ router.coarse_pixel(states).mT / math.sqrt(8)
    torch.testing.assert_close(coarse, expected)
    again = router.refine(routing, states, owner_mask(expected))
    torch.testing.assert_close(refined, router.refined_slot(again) @ router.refined_pixel(states).mT / math.sqrt(8))


def test_shared_projections_make_both_maps():
    """D5: the paper's figure names both inner products by the same two linear maps."""
    router = make_router(map_projections="shared")
    routing, states = inputs()
    coarse, refined = router(routing, states, ALL)
    expected = router.map_slot(routing) @ router.map_pixel(states).mT / math.sqrt(8)
    torch.testing.assert_close(coarse, expected)
    again = router.refine(routing, states, owner_mask(expected))
    torch.testing.assert_close(refined, router.map_slot(again) @ router.map_pixel(states).mT / math.sqrt(8))


def test_separate_projections_may_be_equal_and_then_are_shared_ones():
    shared, separate = make_router(map_projections="shared"), make_router()
    weights = shared.state_dict()
    copies = {
        name: weights[name.replace("coarse_", "map_").replace("refined_", "map_")] for name in separate.state_dict()
    }
    separate.load_state_dict(copies)
    routing, states = inputs()
    for one, other in zip(shared(routing, states, ALL), separate(routing, states, ALL), strict=True):
        assert torch.equal(one, other)
    pair = sum(p.numel() for p in (shared.map_slot.weight, *shared.map_pixel.parameters()))
    assert sum(p.numel() for p in separate.parameters()) - sum(p.numel() for p in shared.parameters()) == pair


def test_owner_mask_is_the_argmax_and_everything_where_a_slot_wins_nothing():
    logits = torch.tensor([[[3.0, 0.0, 2.0], [1.0, 1.0, 0.0], [0.0, 0.5, 1.0]]])
    assert owner_mask(logits).tolist() == [[[True, False, True], [False, True, False], [True, True, True]]]


def test_ties_go_to_one_slot():
    assert one_hot(torch.zeros(1, 3, 4)).sum(1).tolist() == [[1] * 4]


# Padding.


def test_an_absent_slot_owns_nothing_and_changes_nobody():
    router = make_router()
    routing, states = inputs()
    present = torch.tensor([[True, False, True]] * 2)
    maps = router(routing, states, present)
    without = router(routing[:, [0, 2]], states, ALL[:, [0, 2]])
    for padded, plain in zip(maps, without, strict=True):
        assert not padded.softmax(1)[:, 1].any()
        torch.testing.assert_close(padded[:, [0, 2]], plain)


def test_absent_slots_are_minus_infinity():
    masked = mask_absent(torch.zeros(1, 2, 3), torch.tensor([[True, False]]))
    assert masked.tolist() == [[[0.0] * 3, [-math.inf] * 3]]


# A fresh router.


@pytest.mark.parametrize("map_projections", ["shared", "separate"])
def test_first_maps_are_balanced_but_not_equal(map_projections):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        router = Router(dim=64, routing_dim=48, router_dim=32, heads=2, map_projections=map_projections)
    routing, states = torch.randn(2, 3, 48, generator=seeded(0)), torch.randn(2, 200, 64, generator=seeded(1))
    for logits in router(routing, states, ALL):
        maps = logits.softmax(1)
        assert 0.15 < maps.min() < maps.max() < 0.6
        assert one_hot(logits).float().mean(2).min() > 0.1


# σ.


def test_sigma_at_inference_is_the_one_hot_argmax():
    logits = torch.randn(2, 3, 4, 5, generator=seeded(0))
    gate = sigma(logits)
    assert torch.equal(gate, F.one_hot(logits.argmax(1), 3).movedim(-1, 1).float())
    assert not gate.requires_grad


def test_sigma_in_training_is_exactly_one_hot_with_the_gradient_of_the_softmax():
    logits = torch.randn(2, 3, 50, generator=seeded(0), requires_grad=True)
    noise = gumbel_noise(logits.shape, seeded(1), torch.device("cpu"))
    gate = sigma(logits, 0.7, noise)
    assert torch.equal(gate.detach(), F.one_hot((logits + noise).argmax(1), 3).movedim(-1, 1).float())
    weights = torch.randn(gate.shape, generator=seeded(2))
    (through,) = torch.autograd.grad((gate * weights).sum(), logits)
    (soft,) = torch.autograd.grad((((logits + noise) / 0.7).softmax(1) * weights).sum(), logits)
    torch.testing.assert_close(through, soft)


def test_gumbel_sigma_samples_the_map():
    logits = torch.tensor([0.0, 1.0, -1.0])[None, :, None].expand(1, 3, 40_000)
    noise = gumbel_noise(logits.shape, seeded(0), torch.device("cpu"))
    gate = sigma(logits, 1.0, noise)
    assert gate.unique().tolist() == [0, 1]  # to the last bit
    frequencies = gate.mean(2)[0]
    torch.testing.assert_close(frequencies, logits[0, :, 0].softmax(0), atol=0.01, rtol=0)


def test_blocked_slots_never_win_and_get_no_gradient():
    logits = torch.randn(1, 3, 500, generator=seeded(0), requires_grad=True)
    blocked = logits.masked_fill(torch.tensor([False, True, False])[None, :, None], -math.inf)
    gate = sigma(blocked, 1.0, gumbel_noise(logits.shape, seeded(1), torch.device("cpu")))
    gate.square().sum().backward()
    assert not gate[:, 1].any()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not logits.grad[:, 1].any()


def test_noise_comes_from_the_callers_generator_alone():
    before = torch.get_rng_state()
    first, second = (gumbel_noise((2, 3), seeded(5), torch.device("cpu")) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())
    assert gumbel_noise((100_000,), seeded(0), torch.device("cpu")).isfinite().all()


@pytest.mark.parametrize(
    ("map_projections", "unreached"),
    # D5: the argmax of the coarse map passes no gradient, so a pair of its own would stay as it is.
    [("shared", set()), ("separate", {"coarse_slot.weight", "coarse_pixel.weight", "coarse_pixel.bias"})],
)
def test_gradient_reaches_the_refined_path_through_sigma(map_projections, unreached):
    router = make_router(0.5, map_projections)
    routing, states = inputs()
    _, refined = router(routing, states, ALL)
    gate = sigma(refined, 1.0, gumbel_noise(refined.shape, seeded(0), torch.device("cpu")))
    (gate * torch.randn(gate.shape, generator=seeded(1))).sum().backward()
    reached = {
        name for name, parameter in router.named_parameters() if parameter.grad is not None and parameter.grad.any()
    }
    assert reached == {name for name, _ in router.named_parameters()} - unreached


# The routing loss.


def random_maps(sizes: list[tuple[int, int]], batch: int = 2, slots: int = 3) -> dict[str, RoutingMaps]:
    generator = seeded(0)

    def probabilities(size: tuple[int, int]) -> Tensor:
        return torch.randn(batch, slots, *size, generator=generator).softmax(1)

    return {
        str(i): RoutingMaps(coarse=probabilities(size), refined=probabilities(size), gate=torch.empty(0))
        for i, size in enumerate(sizes)
    }


def plain_loss(
    maps: dict[str, RoutingMaps],
    gt: Tensor,
    present: Tensor,
    weight: float,
    coarse_weight: float = 0.0,
    background: bool = False,
) -> float:
    per_layer = []
    for layer in maps.values():
        h, w = layer.refined.shape[-2:]
        per_sample = []
        for b in range(len(gt)):
            small = gt[b].unflatten(1, (h, -1)).unflatten(3, (w, -1)).mean((2, 4))
            rows = [i for i in range(gt.shape[1]) if present[b, i]]
            pairs = [(i, small[i]) for i in rows]
            if background:
                pairs.append((gt.shape[1], 1 - small[rows].sum(0)))
            if pairs:
                errors = [
                    ((layer.refined[b, i] - target) ** 2).mean()
                    + coarse_weight * ((layer.coarse[b, i] - target) ** 2).mean()
                    for i, target in pairs
                ]
                per_sample.append(sum(errors) / len(errors))
        per_layer.append(sum(per_sample) / len(per_sample))
    return float(weight * sum(per_layer) / len(per_layer))


def instance_masks() -> Tensor:
    """(2, 2, 8, 12): disjoint instances."""
    owner = torch.randint(0, 3, (2, 8, 12), generator=seeded(4))
    return torch.stack([owner == 0, owner == 1], dim=1).float()


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("coarse_weight", [0.0, 0.5])
@pytest.mark.parametrize("present", [[[True, True], [True, True]], [[True, True], [True, False]]])
def test_routing_loss_is_the_papers(present, coarse_weight, background):
    maps, gt, here = random_maps([(8, 12), (4, 6), (2, 3)]), instance_masks(), torch.tensor(present)
    loss = routing_loss(maps, gt, here, weight=0.3, coarse_weight=coarse_weight, include_background=background)
    assert loss.item() == pytest.approx(plain_loss(maps, gt, here, 0.3, coarse_weight, background), rel=1e-5)


def test_routing_loss_takes_the_presence_of_slots_too():
    maps, gt, present = random_maps([(4, 6)]), instance_masks(), torch.tensor([[True, False], [True, True]])
    assert torch.equal(routing_loss(maps, gt, present), routing_loss(maps, gt, F.pad(present, (0, 1), value=True)))


def test_a_sample_without_subjects_does_not_count():
    maps, gt = random_maps([(4, 6)]), instance_masks()
    alone = {"0": RoutingMaps(coarse=maps["0"].coarse[:1], refined=maps["0"].refined[:1], gate=torch.empty(0))}
    both = routing_loss(maps, gt, torch.tensor([[True, True], [False, False]]))
    torch.testing.assert_close(both, routing_loss(alone, gt[:1], torch.tensor([[True, True]])))
    assert routing_loss(maps, gt, torch.zeros(2, 2, dtype=torch.bool)).item() == 0


def test_perfect_maps_cost_nothing():
    gt = instance_masks()
    perfect = torch.cat([gt, 1 - gt.sum(1, keepdim=True)], dim=1)
    maps = {"0": RoutingMaps(coarse=perfect, refined=perfect, gate=perfect)}
    assert routing_loss(maps, gt, ALL[:, :2], coarse_weight=1.0, include_background=True).item() == 0


def test_routing_loss_default_weight_is_the_papers():
    maps, gt = random_maps([(4, 6)]), instance_masks()
    torch.testing.assert_close(routing_loss(maps, gt, ALL[:, :2]), 0.1 * routing_loss(maps, gt, ALL[:, :2], weight=1.0))


def test_routing_loss_names_what_is_wrong():
    maps, gt = random_maps([(4, 6)]), instance_masks()
    with pytest.raises(ValueError, match="maps is empty"):
        routing_loss({}, gt, ALL[:, :2])
    with pytest.raises(ValueError, match="gt_masks must be"):
        routing_loss(maps, gt[0], ALL[:, :2])
    with pytest.raises(ValueError, match="present must be"):
        routing_loss(maps, gt, ALL[:1, :2])
    with pytest.raises(ValueError, match="gt_masks has"):
        routing_loss(maps, gt[:, :1], ALL[:, :1])
