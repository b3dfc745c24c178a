"""The absorbed router gives what the router gives."""

from __future__ import annotations

import pytest
import torch

from anystory.models import Router
from anystory.models.fast.absorbed_router import absorbed_logits, fold
from models.tiny import relative_error, seeded


@pytest.mark.parametrize("map_projections", ["shared", "separate"])
@pytest.mark.parametrize("slots", [1, 2, 3, 6])
@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_absorbed_router_is_the_router(slots, scale, map_projections):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        router = Router(dim=16, routing_dim=10, router_dim=8, heads=2, map_projections=map_projections)
        for parameter in router.parameters():
            torch.nn.init.normal_(parameter, std=scale)
    routing = torch.randn(2, slots, 10, generator=seeded(1))
    states = torch.randn(2, 35, 16, generator=seeded(2))
    present = torch.ones(2, slots, dtype=torch.bool)
    present[1, : slots // 2] = False
    with torch.no_grad():
        expected = router(routing, states, present)
        result = absorbed_logits(router, fold(router, routing), routing, states, present)
    for absorbed, plain in zip(result, expected, strict=True):
        assert absorbed.dtype == torch.float32
        assert torch.equal(absorbed.isinf(), plain.isinf())
        assert relative_error(absorbed.nan_to_num(neginf=0), plain.nan_to_num(neginf=0)) <= 1e-5


def test_absorbed_router_lets_a_slot_that_wins_nothing_see_all():
    """D4: the coarse map of the second slot is far below the first's everywhere."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        router = Router(dim=16, routing_dim=10, router_dim=8, heads=2)
        router.coarse_pixel.weight.data.zero_()
        router.coarse_pixel.bias.data.copy_(router.coarse_slot.weight[:, 0])
    routing = torch.zeros(1, 2, 10)
    routing[0, 0, 0], routing[0, 1, 0] = 1, -1
    states = torch.randn(1, 12, 16, generator=seeded(3))
    present = torch.ones(1, 2, dtype=torch.bool)
    with torch.no_grad():
        coarse, refined = router(routing, states, present)
        assert (coarse[:, 0] > coarse[:, 1]).all()
        again = absorbed_logits(router, fold(router, routing), routing, states, present)
    assert relative_error(again[0], coarse) <= 1e-5
    assert relative_error(again[1], refined) <= 1e-5
