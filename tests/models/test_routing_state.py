"""RoutingState: who owns each pixel, at a layer's own size and at others."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from anystory.models import Gumbel, RecordedMaps
from models.tiny import LAYER, decide, encode, gate_after, logits, ready, seeded

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


# The router decides.


def test_gate_is_sigma_of_the_refined_map(encoded):
    coarse, refined = logits(16)
    gate = decide(ready(encoded), 16, (coarse, refined))
    assert torch.equal(gate, F.one_hot(refined.argmax(1), 3).movedim(-1, 1).float())


def test_self_attention_of_the_same_size_sees_the_same_gate(encoded):
    routing = ready(encoded, gate=Gumbel(1.0, seeded(0)))
    gate = decide(routing, 16, logits(16))
    assert torch.equal(gate_after(routing, 16), gate[:, :2])


@pytest.mark.parametrize(("pixels", "target", "size"), [(16, 4, (2, 2)), (4, 16, (4, 4)), (4, 64, (8, 8))])
def test_self_attention_of_another_size_sees_the_resized_map(encoded, pixels, target, size):
    """D7: bilinear and antialiased on the probabilities, then argmax."""
    routing, (coarse, refined) = ready(encoded), logits(pixels)
    decide(routing, pixels, (coarse, refined))
    side = math.isqrt(pixels)
    maps = F.interpolate(refined.softmax(1).unflatten(2, (side, side)), size, mode="bilinear", antialias=True)
    expected = F.one_hot(maps.argmax(1), 3).movedim(-1, 1).float()
    assert torch.equal(gate_after(routing, target), expected[:, :2].flatten(2))


def test_probabilities_are_resized_and_not_logits(encoded):
    """A slot that is sure of one pixel in four does not win the four, however sure it is."""
    refined = torch.tensor([1.0, 0.0, -100.0])[None, :, None, None].repeat(1, 1, 8, 8)
    refined[:, 1, 2:6:2, 2:6:2] = 100.0
    routing = ready(encoded)
    decide(routing, 64, (refined.flatten(2), refined.flatten(2)))
    logits_say = F.interpolate(refined, (4, 4), mode="bilinear", antialias=True).argmax(1)
    assert (logits_say == 1).any()
    assert gate_after(routing, 16).tolist() == [[[1.0] * 16, [0.0] * 16]]


def test_every_pixel_counts_in_a_smaller_map(encoded):
    """Antialiased: the four pixels that plain bilinear sampling would look at do not speak for their sixteen."""
    refined = torch.tensor([5.0, 0.0, 0.0])[None, :, None, None].repeat(1, 1, 8, 8)
    refined[:, 1, 1:3, 1:3] = 10.0
    routing = ready(encoded)
    decide(routing, 64, (refined.flatten(2), refined.flatten(2)))
    sampled = F.interpolate(refined.softmax(1), (2, 2), mode="bilinear").argmax(1)
    assert sampled.tolist() == [[[1, 0], [0, 0]]]
    assert gate_after(routing, 4).tolist() == [[[1.0] * 4, [0.0] * 4]]


def test_training_gradient_reaches_the_map_through_the_resize(encoded):
    routing, (coarse, refined) = ready(encoded, gate=Gumbel(1.0, seeded(0))), logits(16)
    decide(routing, 16, (coarse, refined))
    gate = gate_after(routing, 64)
    assert set(gate.unique().tolist()) == {0.0, 1.0}
    (gate * torch.randn(gate.shape, generator=seeded(1))).sum().backward()
    assert refined.grad is not None
    assert (refined.grad != 0).all()
    assert refined.grad.isfinite().all()


def test_a_certain_map_resizes_without_nan(encoded):
    routing, refined = ready(encoded, gate=Gumbel(1.0, seeded(0))), logits(16)[1]
    certain = refined * 1e4
    decide(routing, 16, (certain, certain))
    gate_after(routing, 4).sum().backward()
    assert refined.grad is not None
    assert refined.grad.isfinite().all()


def test_padding_owns_no_pixel_at_any_size(adapter):
    encoded = encode(adapter, 1, 2, present=torch.tensor([[True, False]]))
    routing = ready(encoded, gate=Gumbel(1.0, seeded(0)))
    coarse, refined = (
        part.masked_fill(torch.tensor([False, True, False])[None, :, None], -math.inf) for part in logits(16)
    )
    assert not decide(routing, 16, (coarse, refined))[:, 1].any()
    for pixels in (4, 16, 64):
        assert not gate_after(routing, pixels)[:, 1].any()


def test_gumbel_noise_is_the_callers_and_stays_for_a_repeated_layer(encoded):
    maps = logits(16)
    first, second = (ready(encoded, gate=Gumbel(1.0, seeded(0))) for _ in range(2))
    gate = decide(first, 16, maps)
    assert torch.equal(gate, decide(second, 16, maps))
    assert torch.equal(gate, decide(first, 16, maps))  # gradient checkpointing runs it again
    assert not torch.equal(gate, decide(first, 16, maps, "another.attn2"))


# What is handed out.


def test_recorded_maps_are_those_of_the_last_call(encoded):
    record = RecordedMaps()
    decide(ready(encoded, record=record), 16, logits(16))
    held = record.maps
    ready(encoded, record=record)
    assert record.maps == {}
    assert list(held) == [LAYER]


def test_a_reference_of_scale_zero_is_not_read(encoded):
    assert ready(encoded).reads == [[True, True]]
    assert ready(encoded, reference_scales=torch.tensor([[0.0, 0.5]])).reads == [[False, True]]
