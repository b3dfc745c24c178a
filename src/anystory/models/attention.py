"""The two attention processors that inject routed subjects into a frozen U-Net (3.3).

Their arithmetic is in `injection.py`, in `grouped_attention.py` where pixels are grouped by owner, and in
`absorbed_router.py`; `SubjectConditioning.paths` says which of equal ways to take.

Shapes: B samples, N subjects, S = N + 1 slots with the background last, L pixels of a layer, H heads of
width e, m subject tokens of width c, T reference tokens of width d. With guidance the U-Net's batch is 2B:
[unconditional; conditional].
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

from anystory.models.absorbed_router import absorbed_logits, fold
from anystory.models.conditioning import SubjectConditioning
from anystory.models.grouped_attention import grouped_reference_attention, grouped_slot_attention
from anystory.models.injection import dense_reference_attention, merged_reference_attention, slot_attention
from anystory.models.log_sum_exp import fused_attention_with_lse
from anystory.models.router import Router


class KeyValue(nn.Module):
    """Keys and values of injected features: `Ŵ` of a cross-attention or `W̃` of a self-attention."""

    def __init__(self, source_dim: int, inner_dim: int) -> None:
        super().__init__()
        self.to_k = nn.Linear(source_dim, inner_dim, bias=False)
        self.to_v = nn.Linear(source_dim, inner_dim, bias=False)

    def forward(self, features: Tensor, heads: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(…, T, source) -> keys and values, both (…, H, T, e)."""
        key, value = self.project(features)
        return split_heads(key.to(dtype), heads), split_heads(value.to(dtype), heads)

    def project(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(…, T, source) -> keys and values with all heads together, both (…, T, H · e), in the weights' dtype."""
        features = features.to(self.to_k.weight.dtype)
        return self.to_k(features), self.to_v(features)


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
        query = split_heads(attn.to_q(hidden_states), attn.heads)
        text = encoder_hidden_states
        key, value = cond.cached_text(self.layer, text, lambda: project_context(attn, text))
        if attention_mask is not None:
            attention_mask = attn.prepare_attention_mask(attention_mask, key.shape[2], len(query))
            attention_mask = attention_mask.view(len(query), attn.heads, -1, key.shape[2])
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        attended = attended + self._subjects(cond, attn, hidden_states, query)
        return project_out(attn, attended)

    def _subjects(self, cond: SubjectConditioning, attn: Attention, hidden_states: Tensor, query: Tensor) -> Tensor:
        """The sum over slots, (rows, H, L, e); rows as in the U-Net's batch."""
        encoded, batch, pixels = cond.encoded, cond.encoded.batch_size, hidden_states.shape[1]
        logits = self._route(cond, hidden_states) if cond.needs_router else None
        gate, scales = cond.decide(self.layer, pixels, logits), cond.slot_scales()
        # (B, S, H, m, e)
        key, value = _keys_values(cond, self.layer, self.projection, encoded.tokens, attn.heads, query.dtype)
        if cond.guidance and not cond.paths.conditional_only:
            return self._both_halves(cond, query, key, value, gate * scales[:, :, None])
        if cond.groups_pixels:
            term = grouped_slot_attention(query[-batch:], key, value, cond.owners(self.layer, pixels), scales)
        else:
            term = slot_attention(query[-batch:], key, value, (gate * scales[:, :, None]).to(query.dtype))
        if not cond.guidance:
            return term
        if cond.unconditional == "base":
            return torch.cat([torch.zeros_like(term), term])
        return torch.cat([F.scaled_dot_product_attention(query[:batch], key[:, -1], value[:, -1]), term])

    def _route(self, cond: SubjectConditioning, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        """Coarse and refined logits of the samples that are routed, both (B, S, L)."""
        encoded, batch = cond.encoded, cond.encoded.batch_size
        if cond.guidance and not cond.paths.conditional_only:
            both = self.router(encoded.routing.repeat(2, 1, 1), hidden_states, encoded.present.repeat(2, 1))
            return both[0][batch:], both[1][batch:]
        routed = hidden_states[-batch:]
        if not cond.paths.absorbed_router:
            return self.router(encoded.routing, routed, encoded.present)
        folded = cond.cached(f"{self.layer} folded", lambda: fold(self.router, encoded.routing))
        return absorbed_logits(self.router, folded, encoded.routing, routed, encoded.present)

    def _both_halves(
        self, cond: SubjectConditioning, query: Tensor, key: Tensor, value: Tensor, weights: Tensor
    ) -> Tensor:
        """The plain form of guidance (D8): the unconditional half is a sample like others that is all background."""
        background = torch.zeros_like(weights)
        if cond.unconditional == "empty":
            background[:, -1] = 1
        weights = torch.cat([background, weights]).to(query.dtype)
        return slot_attention(query, torch.cat([key, key]), torch.cat([value, value]), weights)


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
        cond, pixels = subject_conditioning, hidden_states.shape[1]
        cond.check_batch(len(hidden_states))
        bias = cond.reference_bias()
        if cond.paths.merged_attention and cond.groups_pixels:
            groups = cond.reading_owners(self.preceding, pixels)
            if not groups:  # the plain attention is both exact and free
                return self.base(attn, hidden_states)
            query, key, value = project_in(attn, hidden_states)
            references = self._references(cond, attn, query.dtype)
            return project_out(attn, grouped_reference_attention(query, key, value, *references, groups, bias))

        gate = cond.gate_after(self.preceding, pixels)
        # A compiled U-Net may not ask the data.
        if not (gate.requires_grad or torch.compiler.is_compiling() or cond.reads_references(gate)):
            return self.base(attn, hidden_states)
        query, key, value = project_in(attn, hidden_states)
        references = self._references(cond, attn, query.dtype)
        return project_out(attn, self._attend(cond, query, key, value, *references, gate, bias))

    def _references(self, cond: SubjectConditioning, attn: Attention, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values of all references, (B, N, H, T, e)."""
        assert self.projection is not None
        features = cond.encoded.features[self.layer]
        return _keys_values(cond, self.layer, self.projection, features, attn.heads, dtype)

    def _attend(
        self,
        cond: SubjectConditioning,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        reference_key: Tensor,
        reference_value: Tensor,
        gate: Tensor,
        bias: Tensor,
    ) -> Tensor:
        """Every pixel against every reference, with the gate saying which of them count."""
        if gate.requires_grad:
            attend = merged_reference_attention
        elif cond.paths.merged_attention:
            attend = partial(merged_reference_attention, attend=fused_attention_with_lse)
        else:
            attend = dense_reference_attention
        if not cond.guidance:
            return attend(query, key, value, reference_key, reference_value, gate, bias)
        batch = cond.encoded.batch_size
        if cond.paths.conditional_only:  # D8: no reference keys in the unconditional half
            unconditional = F.scaled_dot_product_attention(query[:batch], key[:batch], value[:batch])
            routed = query[batch:], key[batch:], value[batch:]
            return torch.cat([unconditional, attend(*routed, reference_key, reference_value, gate, bias)])
        # The plain form: the unconditional half is a sample like others, of which no pixel reads a reference.
        reference_key, reference_value = (torch.cat([part, part]) for part in (reference_key, reference_value))
        gate, bias = torch.cat([torch.zeros_like(gate), gate]), torch.cat([bias, bias])
        return attend(query, key, value, reference_key, reference_value, gate, bias)


def _keys_values(
    cond: SubjectConditioning, layer: str, projection: KeyValue, features: Tensor, heads: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Keys and values of a layer, (…, H, T, e): those computed with the encoding, else remembered for the call."""
    if cond.paths.reuse and layer in cond.encoded.projected:
        key, value = cond.encoded.projected[layer]
        return split_heads(key.to(dtype), heads), split_heads(value.to(dtype), heads)
    return cond.cached(layer, lambda: projection(features, heads, dtype))


def project_in(attn: Attention, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value of a self-attention by its own projections, each (B, H, L, e)."""
    return split_heads(attn.to_q(hidden_states), attn.heads), *project_context(attn, hidden_states)


def project_context(attn: Attention, context: Tensor) -> tuple[Tensor, Tensor]:
    """Key and value of what is attended to by the layer's own projections, both (B, H, T, e)."""
    assert attn.to_k is not None
    assert attn.to_v is not None
    return split_heads(attn.to_k(context), attn.heads), split_heads(attn.to_v(context), attn.heads)


def split_heads(tensor: Tensor, heads: int) -> Tensor:
    """(…, L, H · e) -> (…, H, L, e)."""
    return tensor.unflatten(-1, (heads, -1)).transpose(-3, -2)


def project_out(attn: Attention, attended: Tensor) -> Tensor:
    """(B, H, L, e) -> (B, L, d) through the layer's own output projection and dropout."""
    assert attn.to_out is not None
    return attn.to_out[1](attn.to_out[0](attended.transpose(1, 2).flatten(2)))
