"""Both injections as every pixel against every slot: the plain forms, and the merged one that training needs (3.3).

Shapes: B samples, N subjects, S = N + 1 slots with the background last, L pixels of a layer, H heads of width e,
m subject tokens, T reference tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from anystory.models.log_sum_exp import AttentionWithLse, attention_with_lse

# A reference that does not own a pixel still gives the gate a gradient there. Its weight is imagined as at most the
# owner's: a trained W̃ has logits far above the latent's own, and e^(that) would drown every other gradient.
_MAX_IMAGINED_LOGIT = 0.0


def slot_attention(query: Tensor, key: Tensor, value: Tensor, weights: Tensor) -> Tensor:
    """`Σ_i w_i ⊙ Attn(Q, K_i, V_i)`: one softmax per slot, then one product with all slots' values.

    Args:
        query: (B, H, L, e).
        key, value: (B, S, H, m, e).
        weights: (B, S, L): η σ(M).

    Returns:
        (B, H, L, e).
    """
    keys, values = key.transpose(1, 2).flatten(2, 3), value.transpose(1, 2).flatten(2, 3)  # (B, H, S · m, e)
    scores = torch.matmul(query * query.shape[-1] ** -0.5, keys.transpose(-2, -1))
    shares = scores.unflatten(-1, (key.shape[1], -1)).softmax(dim=-1)  # (B, H, L, S, m)
    weighted = shares * weights.transpose(1, 2)[:, None, :, :, None]
    return torch.matmul(weighted.flatten(-2), values)


def dense_reference_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    reference_key: Tensor,
    reference_value: Tensor,
    gate: Tensor,
    bias: Tensor,
) -> Tensor:
    """Attention over own and all reference keys, with γ where the gate is 1 and −∞ elsewhere. The plain form.

    Args:
        query, key, value: (B, H, L, e).
        reference_key, reference_value: (B, N, H, T, e).
        gate: (B, N, L) one-hot or zero.
        bias: (B, N) γ, may be −∞.

    Returns:
        (B, H, L, e).
    """
    tokens = reference_key.shape[3]
    masked = bias[:, :, None].expand_as(gate).masked_fill(gate == 0, float("-inf"))  # (B, N, L)
    mask = masked.transpose(1, 2).repeat_interleave(tokens, dim=2)  # (B, L, N · T)
    mask = F.pad(mask, (key.shape[2], 0)).unsqueeze(1).to(query.dtype)
    keys = torch.cat([key, reference_key.transpose(1, 2).flatten(2, 3)], dim=2)
    values = torch.cat([value, reference_value.transpose(1, 2).flatten(2, 3)], dim=2)
    return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)


def merged_reference_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    reference_key: Tensor,
    reference_value: Tensor,
    gate: Tensor,
    bias: Tensor,
    attend: AttentionWithLse = attention_with_lse,
) -> Tensor:
    """The same by merging maskless attentions, differentiable in the gate (part 3).

    `out = (e^s o_self + Σ_i m_i e^{r_i+γ_i} o_i) / (e^s + Σ_i m_i e^{r_i+γ_i})`, with s and r_i the
    log-sum-exp of the scores of the own and the reference's keys. Arguments and result as in
    `dense_reference_attention`; `attend` does the attention (the fused one gives the gate's logits no gradient).
    """
    own, own_lse = attend(query, key, value)
    queries = query[:, None].expand(-1, reference_key.shape[1], -1, -1, -1)
    joined = attend(queries.flatten(0, 1), reference_key.flatten(0, 1), reference_value.flatten(0, 1))
    other, other_lse = (part.unflatten(0, reference_key.shape[:2]) for part in joined)  # (B, N, H, L, …)
    gate, other_lse = gate[:, :, None], other_lse + bias[:, :, None, None]
    peak = torch.maximum(own_lse, other_lse.masked_fill(gate == 0, float("-inf")).amax(dim=1)).detach()
    own_weight = (own_lse - peak).exp()
    other_weight = gate * (other_lse - peak[:, None]).clamp(max=_MAX_IMAGINED_LOGIT).exp()
    total = own_weight + other_weight.sum(dim=1)
    merged = (own_weight / total)[..., None] * own + ((other_weight / total[:, None])[..., None] * other).sum(dim=1)
    return merged.to(query.dtype)
