"""Both injections over pixels grouped by owner: a group meets the keys of its own slot only (part 3).

For inference: no gradient reaches the gate. Shapes: R ≥ B rows of the U-Net's batch, of which the last B are the
samples that are routed, N subjects, S = N + 1 slots, L pixels of a layer, H heads of width e, m subject tokens,
T reference tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor

from anystory.models.log_sum_exp import fused_attention_with_lse
from anystory.models.owners import PixelGroup


def grouped_slot_attention(
    query: Tensor, key: Tensor, value: Tensor, groups: Iterable[PixelGroup], scales: Tensor
) -> Tensor:
    """`slot_attention` where each pixel has one slot: `η_i Attn(Q, K_i, V_i)` with i its owner.

    Args:
        query: (B, H, L, e).
        key, value: (B, S, H, m, e).
        groups: every pixel once.
        scales: (B, S) η.

    Returns:
        (B, H, L, e).
    """
    out = query.new_empty(query.shape)
    scales = scales.to(query.dtype)
    for group in groups:
        sample, slot = group.sample, group.slot
        owned = query[sample].index_select(1, group.pixels)
        term = F.scaled_dot_product_attention(owned[None], key[sample, slot][None], value[sample, slot][None])[0]
        out[sample].index_copy_(1, group.pixels, term * scales[sample, slot])
    return out


def grouped_reference_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    reference_key: Tensor,
    reference_value: Tensor,
    groups: Iterable[PixelGroup],
    bias: Tensor,
) -> Tensor:
    """`dense_reference_attention` without a mask: own keys for all, then each group's reference merged in.

    With s and r the log-sum-exp of the scores of the own and of the owner's keys, the owner's share of the joint
    softmax is `e^{r+γ} / (e^s + e^{r+γ}) = sigmoid(r + γ − s)`.

    Args:
        query, key, value: (R, H, L, e); rows before the last B see their own keys only.
        reference_key, reference_value: (B, N, H, T, e).
        groups: pixels that read a reference; the others' result is the plain self-attention.
        bias: (B, N) γ, finite for every group.

    Returns:
        (R, H, L, e).
    """
    out, own_lse = fused_attention_with_lse(query, key, value)
    first = query.shape[0] - reference_key.shape[0]
    for group in groups:
        sample, slot, row = group.sample, group.slot, first + group.sample
        owned = query[row].index_select(1, group.pixels)
        other, other_lse = fused_attention_with_lse(
            owned[None], reference_key[sample, slot][None], reference_value[sample, slot][None]
        )
        share = (other_lse[0] + bias[sample, slot] - own_lse[row].index_select(1, group.pixels)).sigmoid()
        own = out[row].index_select(1, group.pixels)
        out[row].index_copy_(1, group.pixels, own.lerp(other[0], share[..., None].to(own.dtype)))
    return out
