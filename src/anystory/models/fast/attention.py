"""Both injections over pixel groups, and the kernels that let their attentions merge. No gradient reaches the gate.

Two attentions over disjoint keys merge by the log-sum-exp of their scores, so that no attention needs a mask.

Shapes: R ≥ B rows of the U-Net's batch, of which the last B are the samples that are routed, N subjects, S = N + 1
slots, L pixels of a layer, H heads of width e, m subject tokens, T keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from anystory.models.attention import AttentionWithLse, attention_with_lse
from anystory.models.gates import PixelGroup

# Scores that the portable form holds at a time: 128 MB in float32.
_MOST_SCORES = 2**25

# SDPAParams asks about grouped queries from torch 2.5 on.
_NO_GROUPED_QUERIES = (False,) if torch.__version__ >= "2.5" else ()


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
    """`reference_attention` without a mask: own keys for all, then each group's reference merged in.

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


def fused_attention_with_lse(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """`attention_with_lse` without gradient and without kept scores, by the kernels behind torch's own attention.

    These compute the log-sum-exp anyway, but `scaled_dot_product_attention` does not hand it out. Where there is
    no such kernel (MPS, ROCm, odd head widths on CUDA) plain operations run on a part of the queries at a time.

    Args:
        query: (B, H, L, e).
        key, value: (B, H, T, e).

    Returns:
        (B, H, L, e), and (B, H, L) in float32.
    """
    assert not torch.is_grad_enabled(), "the kernels give the log-sum-exp no gradient"
    kernel = _kernel(query, key, value)
    if kernel is None:
        return _in_parts(query, key, value)
    attended, lse = kernel(query, key, value)
    return attended, lse[..., : query.shape[2]].float()  # the efficient kernel pads the log-sum-exp to 32 queries


def _in_parts(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    rows = max(1, _MOST_SCORES // (query.shape[0] * query.shape[1] * key.shape[2]))
    parts = [attention_with_lse(part, key, value) for part in query.split(rows, dim=2)]
    attended, lse = zip(*parts, strict=True)
    return torch.cat(attended, dim=2), torch.cat(lse, dim=2)


def _kernel(query: Tensor, key: Tensor, value: Tensor) -> AttentionWithLse | None:
    aten: Any = torch.ops.aten
    if query.device.type == "cpu":
        return aten._scaled_dot_product_flash_attention_for_cpu
    # ROCm's kernels promise nothing about their log-sum-exp; widths that are no multiple of 8 would need padding.
    if query.device.type != "cuda" or torch.version.hip is not None or query.shape[-1] % 8:
        return None
    params = torch.backends.cuda.SDPAParams(query, key, value, None, 0.0, False, *_NO_GROUPED_QUERIES)
    if torch.backends.cuda.can_use_flash_attention(params):
        return lambda q, k, v: aten._scaled_dot_product_flash_attention(q, k, v)[:2]
    if torch.backends.cuda.can_use_efficient_attention(params):
        return lambda q, k, v: aten._scaled_dot_product_efficient_attention(q, k, v, None, True)[:2]
    return None
