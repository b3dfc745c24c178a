"""Pixel groups, both injections over them, and the kernels that give the log-sum-exp."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anystory.models.attention import (
    attention_with_lse,
    merged_reference_attention,
    reference_attention,
    slot_attention,
)
from anystory.models.fast import attention as fast_attention
from anystory.models.fast.attention import (
    fused_attention_with_lse,
    grouped_reference_attention,
    grouped_slot_attention,
)
from anystory.models.gates import group_pixels
from models.tiny import gate_of, relative_error, seeded


def test_groups_hold_every_pixel_once_with_its_owner():
    owner = torch.randint(0, 4, (3, 35), generator=seeded(0))
    owner[1] = 2  # owns everything
    owner[2][owner[2] == 0] = 3  # slot 0 owns nothing
    groups = group_pixels(gate_of(owner, 4))
    seen = torch.full_like(owner, -1)
    for group in groups:
        assert len(group.pixels) > 0
        assert group.pixels.diff().gt(0).all()
        assert seen[group.sample, group.pixels].eq(-1).all()
        seen[group.sample, group.pixels] = group.slot
    assert torch.equal(seen, owner)
    assert [(group.sample, group.slot) for group in groups] == sorted({(g.sample, g.slot) for g in groups})


def attention_case(subjects: int, pixels: int = 35) -> dict[str, Tensor]:
    generator = seeded(5)
    query, key, value = torch.randn(3, 2, 2, pixels, 8, generator=generator)
    reference_key, reference_value = torch.randn(2, 2, subjects, 2, 7, 8, generator=generator)
    owner = torch.randint(0, subjects + 1, (2, pixels), generator=generator)
    return {
        "query": query,
        "key": key,
        "value": value,
        "reference_key": reference_key,
        "reference_value": reference_value,
        "gate": gate_of(owner, subjects + 1)[:, :-1],
        "bias": torch.randn(2, subjects, generator=generator),
    }


@pytest.mark.parametrize("subjects", [1, 2, 5])
@pytest.mark.parametrize("stretch", [1.0, 20.0])
def test_grouped_reference_attention_is_the_masked_one(subjects, stretch):
    case = attention_case(subjects)
    case["query"] = case["query"] * stretch  # log-sum-exps far apart
    with torch.no_grad():
        plain = reference_attention(**case)
        gate = case.pop("gate")
        background = 1 - gate.sum(1, keepdim=True)
        groups = [g for g in group_pixels(torch.cat([gate, background], 1)) if g.slot < subjects]
        grouped = grouped_reference_attention(**case, groups=groups)
        assert relative_error(grouped, plain) <= 1e-5
        merged = merged_reference_attention(**case, gate=gate, attend=fused_attention_with_lse)
        assert relative_error(merged, plain) <= 1e-5


@pytest.mark.parametrize("slots", [1, 3, 6])
def test_grouped_slot_attention_is_the_gated_sum(slots):
    generator = seeded(6)
    query = torch.randn(2, 2, 35, 8, generator=generator)
    key, value = torch.randn(2, 2, slots, 2, 5, 8, generator=generator)
    gate = gate_of(torch.randint(0, slots, (2, 35), generator=generator), slots)
    scales = torch.rand(2, slots, generator=generator)
    plain = slot_attention(query, key, value, gate * scales[:, :, None])
    assert relative_error(grouped_slot_attention(query, key, value, group_pixels(gate), scales), plain) <= 1e-5


# The kernels.


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 33, 17), (1, 2, 5, 256)])
def test_fused_attention_gives_output_and_log_sum_exp(monkeypatch, shape, parts):
    batch, heads, length, tokens = shape
    query = 3 * torch.randn(batch, length, heads, 8, generator=seeded(0)).transpose(1, 2)  # as heads are split
    key, value = torch.randn(2, batch, heads, tokens, 8, generator=seeded(1))
    if parts:
        monkeypatch.setattr(fast_attention, "_kernel", lambda *_: None)
        monkeypatch.setattr(fast_attention, "_MOST_SCORES", 40)
    with torch.no_grad():
        expected, expected_lse = attention_with_lse(query, key, value)
        result, lse = fused_attention_with_lse(query, key, value)
    assert result.shape == query.shape
    assert lse.dtype == torch.float32
    assert relative_error(result, expected) <= 1e-5
    assert relative_error(lse, expected_lse) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_fused_attention_keeps_half_precision(dtype):
    query, key, value = torch.randn(3, 1, 2, 9, 8, generator=seeded(2)).to(dtype)
    with torch.no_grad():
        result, lse = fused_attention_with_lse(query, key, value)
        expected, expected_lse = attention_with_lse(query.float(), key.float(), value.float())
    assert result.dtype == dtype
    assert lse.dtype == torch.float32
    assert relative_error(result.float(), expected) <= 2e-2
    assert relative_error(lse, expected_lse) <= 2e-2


def test_the_kernels_pass_no_gradient():
    with pytest.raises(AssertionError, match="no gradient"):
        fused_attention_with_lse(*torch.randn(3, 1, 1, 2, 4, requires_grad=True))
