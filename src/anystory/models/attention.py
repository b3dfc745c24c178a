"""The two attention processors that inject routed subjects into a frozen U-Net (3.3), and their arithmetic.

Shapes: B samples, N subjects, S = N + 1 slots with the background last, L pixels of a layer, H heads of
width e, m subject tokens of width c, T reference tokens of width d. With guidance the U-Net's batch is 2B:
[unconditional; conditional].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

from anystory.models.conditioning import SubjectConditioning
from anystory.models.router import Router

# A reference that does not own a pixel still gives the gate a gradient there. Its weight is imagined as at most the
# owner's: a trained W̃ has logits far above the latent's own, and e^(that) would drown every other gradient.
_MAX_IMAGINED_LOGIT = 0.0


class KeyValue(nn.Module):
    """Keys and values of injected features: `Ŵ` of a cross-attention or `W̃` of a self-attention."""

    def __init__(self, source_dim: int, inner_dim: int) -> None:
        super().__init__()
        self.to_k = nn.Linear(source_dim, inner_dim, bias=False)
        self.to_v = nn.Linear(source_dim, inner_dim, bias=False)

    def forward(self, features: Tensor, heads: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(…, T, source) -> keys and values, both (…, H, T, e)."""
        features = features.to(self.to_k.weight.dtype)
        return split_heads(self.to_k(features).to(dtype), heads), split_heads(self.to_v(features).to(dtype), heads)


class RoutedCrossAttnProcessor:
    """`Ẑ = Attn(Q, K_text, V_text) + η Σ_i σ(M_i) ⊙ Attn(Q, E_i Ŵ_k, E_i Ŵ_v)`; decides M on the way.

    Without `subject_conditioning` it is diffusers' own attention.

    Args:
        layer: name of the cross-attention.
        router: its router.
        projection: its `Ŵ`.
    """

    def __init__(self, layer: str, router: Router, projection: KeyValue) -> None:
        self.layer = layer
        self.router = router
        self.projection = projection
        self.base = AttnProcessor2_0()

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        subject_conditioning: SubjectConditioning | None = None,
    ) -> Tensor:
        if subject_conditioning is None:
            return self.base(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        if not isinstance(encoder_hidden_states, Tensor):
            raise ValueError(f"encoder_hidden_states must be a tensor, got {type(encoder_hidden_states).__name__}")
        cond = subject_conditioning
        cond.check_batch(len(hidden_states))
        query, key, value = project_in(attn, hidden_states, encoder_hidden_states)
        if attention_mask is not None:
            attention_mask = attn.prepare_attention_mask(attention_mask, key.shape[2], len(query))
            attention_mask = attention_mask.view(len(query), attn.heads, -1, key.shape[2])
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        attended = attended + self._subjects(cond, attn, hidden_states, query)
        return project_out(attn, attended)

    def _subjects(self, cond: SubjectConditioning, attn: Attention, hidden_states: Tensor, query: Tensor) -> Tensor:
        """The sum over slots, (rows, H, L, e); rows as in the U-Net's batch."""
        batch = cond.encoded.batch_size
        routed_states, routed_query = hidden_states[-batch:], query[-batch:]
        encoded = cond.encoded
        logits = self.router(encoded.routing, routed_states, encoded.present) if cond.needs_router else None
        weights = cond.decide(self.layer, hidden_states.shape[1], logits) * cond.slot_scales()[:, :, None]
        # (B, S, H, m, e)
        key, value = cond.cached(self.layer, lambda: self.projection(encoded.tokens, attn.heads, query.dtype))
        term = slot_attention(routed_query, key, value, weights.to(query.dtype))
        if not cond.guidance:
            return term
        if cond.unconditional == "base":
            return torch.cat([torch.zeros_like(term), term])
        return torch.cat([F.scaled_dot_product_attention(query[:batch], key[:, -1], value[:, -1]), term])


class RoutedSelfAttnProcessor:
    """Self-attention whose keys and values are joined by those of the reference that owns each pixel.

    Without `subject_conditioning`, or without a projection (the first self-attention, which no map precedes),
    it is diffusers' own attention.

    Args:
        layer: name of the self-attention.
        preceding: name of the cross-attention that ran before it.
        projection: its `W̃`.
    """

    def __init__(self, layer: str, preceding: str | None = None, projection: KeyValue | None = None) -> None:
        self.layer = layer
        self.preceding = preceding
        self.projection = projection
        self.base = AttnProcessor2_0()

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        subject_conditioning: SubjectConditioning | None = None,
    ) -> Tensor:
        if subject_conditioning is None or self.preceding is None or self.projection is None:
            return self.base(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        if attention_mask is not None:
            raise ValueError("attention_mask is not supported in a self-attention that reads references")
        cond, projection = subject_conditioning, self.projection
        batch = cond.encoded.batch_size
        cond.check_batch(len(hidden_states))
        gate, bias = cond.gate_after(self.preceding, hidden_states.shape[1]), cond.reference_bias()
        # Where nobody owns a pixel or every scale is 0, the plain attention is both exact and free.
        active = (gate > 0) & (bias > float("-inf"))[:, :, None]
        if not (gate.requires_grad or bool(active.any())):
            return self.base(attn, hidden_states)

        query, key, value = project_in(attn, hidden_states, hidden_states)
        features = cond.encoded.features[self.layer]
        # (B, N, H, T, e)
        reference_key, reference_value = cond.cached(self.layer, lambda: projection(features, attn.heads, query.dtype))
        attend = merged_reference_attention if gate.requires_grad else dense_reference_attention
        attended = attend(query[-batch:], key[-batch:], value[-batch:], reference_key, reference_value, gate, bias)
        if cond.guidance:  # D8: no reference keys in the unconditional half
            unconditional = F.scaled_dot_product_attention(query[:batch], key[:batch], value[:batch])
            attended = torch.cat([unconditional, attended])
        return project_out(attn, attended)


def project_in(attn: Attention, hidden_states: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value by the layer's own projections, each (B, H, …, e)."""
    assert attn.to_k is not None
    assert attn.to_v is not None
    query, key, value = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
    return split_heads(query, attn.heads), split_heads(key, attn.heads), split_heads(value, attn.heads)


def split_heads(tensor: Tensor, heads: int) -> Tensor:
    """(…, L, H · e) -> (…, H, L, e)."""
    return tensor.unflatten(-1, (heads, -1)).transpose(-3, -2)


def project_out(attn: Attention, attended: Tensor) -> Tensor:
    """(B, H, L, e) -> (B, L, d) through the layer's own output projection and dropout."""
    assert attn.to_out is not None
    return attn.to_out[1](attn.to_out[0](attended.transpose(1, 2).flatten(2)))


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
) -> Tensor:
    """The same by merging maskless attentions, differentiable in the gate (part 3).

    `out = (e^s o_self + Σ_i m_i e^{r_i+γ_i} o_i) / (e^s + Σ_i m_i e^{r_i+γ_i})`, with s and r_i the
    log-sum-exp of the scores of the own and the reference's keys. Arguments and result as in
    `dense_reference_attention`.
    """
    own, own_lse = attention_with_lse(query, key, value)
    other, other_lse = attention_with_lse(query[:, None], reference_key, reference_value)  # (B, N, H, L, …)
    gate, other_lse = gate[:, :, None], other_lse + bias[:, :, None, None]
    peak = torch.maximum(own_lse, other_lse.masked_fill(gate == 0, float("-inf")).amax(dim=1)).detach()
    own_weight = (own_lse - peak).exp()
    other_weight = gate * (other_lse - peak[:, None]).clamp(max=_MAX_IMAGINED_LOGIT).exp()
    total = own_weight + other_weight.sum(dim=1)
    merged = (own_weight / total)[..., None] * own + ((other_weight / total[:, None])[..., None] * other).sum(dim=1)
    return merged.to(query.dtype)


def attention_with_lse(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Attention in plain operations, (…, L, e), and the log-sum-exp of its scores, (…, L) in float32."""
    scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-2, -1)).float()
    lse = scores.logsumexp(dim=-1)
    return torch.matmul((scores - lse[..., None]).exp().to(value.dtype), value), lse
