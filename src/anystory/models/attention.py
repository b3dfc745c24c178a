"""Both injections: what routed subjects add to the attention layers of a frozen U-Net (paper, section 3.3).

Each processor is the plain form of its equation, which training takes and tests compare with; `fast/` has the cheaper
form of the same. `RoutingState` says which of the two a U-Net call takes, and who owns each pixel.

Shapes: B samples, N subjects, S = N + 1 slots with the background last, L pixels of a layer, d its width, H heads of
width e, m subject tokens of width c, T reference tokens of width d. With guidance the U-Net's batch has 2B rows,
[unconditional; conditional].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import (
    Attention,
    AttnProcessor2_0,
    IPAdapterAttnProcessor,
    IPAdapterAttnProcessor2_0,
    IPAdapterXFormersAttnProcessor,
)
from torch import Tensor, nn

from anystory.models.casting import working_dtype
from anystory.models.guidance import gate_of_both_halves
from anystory.models.router import Router
from anystory.models.routing_state import LayerState, RoutingState

AttentionWithLse = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

IMAGE_PROMPT_PROCESSORS = (IPAdapterAttnProcessor, IPAdapterAttnProcessor2_0, IPAdapterXFormersAttnProcessor)
"""What diffusers' `load_ip_adapter` puts into cross-attentions."""

# A reference that does not own a pixel still gives the gate a gradient there. Its weight is imagined as at most the
# owner's: a trained W̃ has logits far above the latent's own, and e^(that) would drown every other gradient.
_MAX_IMAGINED_LOGIT = 0.0


class KeyValue(nn.Module):
    """Keys and values of injected features: `Ŵ` of a cross-attention or `W̃` of a self-attention."""

    def __init__(self, source_dim: int, inner_dim: int) -> None:
        super().__init__()
        self.to_k = nn.Linear(source_dim, inner_dim, bias=False)
        self.to_v = nn.Linear(source_dim, inner_dim, bias=False)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(…, T, source) -> keys and values with all heads together, both (…, T, H · e), in the weights' dtype."""
        features = features.to(working_dtype(self.to_k))
        return self.to_k(features), self.to_v(features)


class RoutedCrossAttnProcessor:
    """The CLIP branch: each pixel also attends to the tokens of the slot that owns it.

        Ẑ = Attn(Q, K_text, V_text) + η Σ_i σ(M_i) ⊙ Attn(Q, E_i Ŵ_k, E_i Ŵ_v),    i = 1 … N + 1

    `M` is what the layer's own router makes of `Z`, the hidden states that enter here. Without `routing` it is
    diffusers' own attention. Beside an IP-Adapter that one's term is added, too.

    Args:
        layer: name of the cross-attention.
        router: its router.
        projection: its `Ŵ`.
        image_prompts: the processor of an IP-Adapter that is loaded, one of `IMAGE_PROMPT_PROCESSORS`.
    """

    def __init__(self, layer: str, router: Router, projection: KeyValue, image_prompts: Any = None) -> None:
        self.layer = layer
        self.router = router
        self.projection = projection
        self.image_prompts = image_prompts
        self.base = AttnProcessor2_0()
        self.state: LayerState | None = None

    def begin(self, routing: RoutingState) -> None:
        """Before each U-Net call. For training nothing is held here: a state may hold a graph."""
        self.state = None if torch.is_grad_enabled() else routing.layer(self.layer)
        if self.state is not None and routing.fast is not None:
            routing.fast.prepare(routing, self.state, self.router)

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | tuple[Tensor, list[Tensor]] | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        routing: RoutingState | None = None,
        ip_adapter_masks: list[Tensor] | None = None,
    ) -> Tensor:
        text, prompted = encoder_hidden_states, self.image_prompts is not None
        if prompted:  # text and the tokens of its pictures, side by side
            found = self.image_prompts(
                attn, hidden_states, text, attention_mask, temb, ip_adapter_masks=ip_adapter_masks
            )
        elif routing is None:
            found = self.base(attn, hidden_states, text, attention_mask, temb)  # pyright: ignore[reportArgumentType]
        if routing is None:
            return found
        routing.check_batch(len(hidden_states))
        state = routing.layer(self.layer) if self.state is None else self.state
        query = split_heads(attn.to_q(hidden_states), attn.heads)
        if prompted:
            return found + _project_out_unbiased(attn, self._subjects(routing, state, attn, hidden_states, query))
        if not isinstance(text, Tensor):
            raise ValueError(f"encoder_hidden_states must be a tensor, got {type(text).__name__}")
        if routing.fast is None:
            key, value = project_context(attn, text)
        else:
            key, value = routing.fast.project_text(state, attn, text)
        if attention_mask is not None:
            attention_mask = attn.prepare_attention_mask(attention_mask, key.shape[2], len(query))
            attention_mask = attention_mask.view(len(query), attn.heads, -1, key.shape[2])
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        return project_out(attn, attended + self._subjects(routing, state, attn, hidden_states, query))

    def _subjects(
        self, routing: RoutingState, state: LayerState, attn: Attention, hidden_states: Tensor, query: Tensor
    ) -> Tensor:
        """η Σ_i σ(M_i) ⊙ Attn(Q, E_i Ŵ_k, E_i Ŵ_v), (rows, H, L, e)."""
        if routing.fast is not None:
            return routing.fast.subject_term(routing, state, self, attn, hidden_states, query)
        call, encoded = routing.call, routing.call.encoded
        routed = hidden_states[-encoded.batch_size :]
        logits = self.router(encoded.routing, routed, encoded.present) if call.needs_router else None
        gate = routing.decide(state, hidden_states.shape[1], logits).gate.flatten(2)  # (B, S, L)
        key, value = self.projection(encoded.tokens)  # (B, S, m, H · e)
        weights = gate * routing.slot_scales[:, :, None]
        if call.guidance:
            weights = gate_of_both_halves(weights, call.unconditional)
            key, value = torch.cat([key, key]), torch.cat([value, value])
        return slot_attention(query, *heads_of(key, value, attn.heads, query.dtype), weights.to(query.dtype))


class RoutedSelfAttnProcessor:
    """The ReferenceNet branch: each pixel also attends to the reference of the subject that owns it.

        Ẑ = Attn(Q, [K; G_1 W̃_k; …; G_N W̃_k], [V; G_1 W̃_v; …; G_N W̃_v]) with a bias on the scores:
        0 for K, γ for G_i where σ(M_i) of the preceding cross-attention is 1, −∞ elsewhere

    Without `routing`, or without a projection (the first self-attention, which no map precedes), it is diffusers' own
    attention.

    Args:
        layer: name of the self-attention.
        preceding: name of the cross-attention that ran before it.
        projection: its `W̃`.
    """

    def __init__(self, layer: str, preceding: str | None = None, projection: KeyValue | None = None) -> None:
        self.layer = layer
        self.preceding = preceding or ""
        self.projection = None if preceding is None else projection  # alone says whether there is anything to read
        self.base = AttnProcessor2_0()
        self.state: LayerState | None = None
        self.preceding_state: LayerState | None = None

    def begin(self, routing: RoutingState) -> None:
        """As for the other processor."""
        bound = not torch.is_grad_enabled() and self.projection is not None
        self.state = routing.layer(self.layer) if bound else None
        self.preceding_state = routing.layer(self.preceding) if bound else None

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        routing: RoutingState | None = None,
    ) -> Tensor:
        if routing is None or self.projection is None:
            return self.base(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        if attention_mask is not None:
            raise ValueError("attention_mask is not supported in a self-attention that reads references")
        routing.check_batch(len(hidden_states))
        state = routing.layer(self.layer) if self.state is None else self.state
        preceding = routing.layer(self.preceding) if self.preceding_state is None else self.preceding_state
        decision = routing.decision_after(preceding, hidden_states.shape[1])
        if routing.fast is not None:
            found = routing.fast.self_attention(routing, state, decision, self, attn, hidden_states)
            return self.base(attn, hidden_states) if found is None else found

        call, gate, bias = routing.call, decision.gate.flatten(2), routing.reference_bias
        key, value = self.projection(call.encoded.features_of(self.layer))  # (B, N, T, H · e)
        if call.guidance:
            gate = gate_of_both_halves(gate, call.unconditional)
            key, value, bias = torch.cat([key, key]), torch.cat([value, value]), torch.cat([bias, bias])
        own = project_in(attn, hidden_states)
        references = heads_of(key, value, attn.heads, own[0].dtype)
        attend = merged_reference_attention if gate.requires_grad else reference_attention
        return project_out(attn, attend(*own, *references, gate[:, :-1], bias))


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


def reference_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    reference_key: Tensor,
    reference_value: Tensor,
    gate: Tensor,
    bias: Tensor,
) -> Tensor:
    """Attention over own and all reference keys, with γ where the gate is 1 and −∞ elsewhere.

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


def attention_with_lse(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Attention in differentiable operations, (…, L, e), and the log-sum-exp of its scores, (…, L) in float32."""
    scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-2, -1)).float()
    lse = scores.logsumexp(dim=-1)
    return torch.matmul((scores - lse[..., None]).exp().to(value.dtype), value), lse


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
    """`reference_attention` by merging maskless attentions, differentiable in the gate, which trains the router.

    `out = (e^s o_self + Σ_i m_i e^{r_i+γ_i} o_i) / (e^s + Σ_i m_i e^{r_i+γ_i})`, with s and r_i the log-sum-exp of the
    scores of the own and the reference's keys. Arguments and result as there; `attend` is another
    `attention_with_lse` (the fused one gives the gate's logits no gradient).
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


def project_in(attn: Attention, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value of a self-attention by its own projections, each (B, H, L, e)."""
    return split_heads(attn.to_q(hidden_states), attn.heads), *project_context(attn, hidden_states)


def project_context(attn: Attention, context: Tensor) -> tuple[Tensor, Tensor]:
    """Key and value of what is attended to by the layer's own projections, both (B, H, T, e)."""
    assert attn.to_k is not None
    assert attn.to_v is not None
    return split_heads(attn.to_k(context), attn.heads), split_heads(attn.to_v(context), attn.heads)


def project_out(attn: Attention, attended: Tensor) -> Tensor:
    """(B, H, L, e) -> (B, L, d) through the layer's own output projection and dropout."""
    assert attn.to_out is not None
    return attn.to_out[1](attn.to_out[0](attended.transpose(1, 2).flatten(2)))


def _project_out_unbiased(attn: Attention, attended: Tensor) -> Tensor:
    """The same of a term that is added to what has been projected already."""
    return project_out(attn, attended) - project_out(attn, torch.zeros_like(attended[:1, :, :1]))


def split_heads(tensor: Tensor, heads: int) -> Tensor:
    """(…, L, H · e) -> (…, H, L, e)."""
    return tensor.unflatten(-1, (heads, -1)).transpose(-3, -2)


def heads_of(key: Tensor, value: Tensor, heads: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Keys and values (…, T, H · e) as a layer's attention takes them, both (…, H, T, e) in its dtype."""
    return split_heads(key.to(dtype), heads), split_heads(value.to(dtype), heads)
