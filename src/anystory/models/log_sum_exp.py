"""Attention that also gives the log-sum-exp of its scores, by which two attentions over disjoint keys merge.

Shapes: B samples, H heads of width e, L queries, T keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

AttentionWithLse = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

# Scores that the portable form holds at a time: 128 MB in float32.
_MOST_SCORES = 2**25

# SDPAParams asks about grouped queries from torch 2.5 on.
_NO_GROUPED_QUERIES = (False,) if torch.__version__ >= "2.5" else ()


def attention_with_lse(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Attention in plain, differentiable operations, (…, L, e), and its log-sum-exp, (…, L) in float32."""
    scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-2, -1)).float()
    lse = scores.logsumexp(dim=-1)
    return torch.matmul((scores - lse[..., None]).exp().to(value.dtype), value), lse


def fused_attention_with_lse(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The same without gradient and without keeping the scores, by the kernels behind torch's own attention.

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
