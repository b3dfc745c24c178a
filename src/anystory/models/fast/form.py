"""The fast form of both injections: what `attention.py` computes, with less work (docs/cost.md).

- Keys and values of subjects, references and prompt, and the router's folded weights, are kept from step to step.
- The router projects the few slots, not every pixel.
- Each pixel meets the keys of its own subject only, so that the cost does not depend on N. The sizes of such groups are
  data: a compiled U-Net, and a gate that gives a pixel to several slots, do without.
- References are merged in by their log-sum-exp, so that no attention has a mask.
- The unconditional half is computed by itself.

No gradient passes. Shapes: as in `attention.py`; R rows of the U-Net's batch, of which the last B are routed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor

from anystory.models.attention import (
    RoutedCrossAttnProcessor,
    RoutedSelfAttnProcessor,
    heads_of,
    merged_reference_attention,
    project_context,
    project_in,
    project_out,
    slot_attention,
)
from anystory.models.conditioning import LayerCache
from anystory.models.fast.absorbed_router import absorbed_logits, fold
from anystory.models.fast.attention import (
    fused_attention_with_lse,
    grouped_reference_attention,
    grouped_slot_attention,
)
from anystory.models.gates import Decision
from anystory.models.guidance import unconditional_term
from anystory.models.router import Router
from anystory.models.routing_state import LayerState, RoutingState


class FastForm:
    """Stateless: all that it keeps lies in the layers' states."""

    def prepare(self, routing: RoutingState, layer: LayerState, router: Router) -> None:
        """Folds a layer's router, once for all steps and before the first of them runs a compiled block."""
        if routing.call.needs_router and layer.cache.folded is None:
            layer.cache.folded = fold(router, routing.call.encoded.routing)

    def project_text(self, layer: LayerState, attn: Attention, text: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the prompt, both (R, H, T, e), kept for as long as the same tensor comes back unchanged.

        A callback may put another prompt in the place of the first, or write into it; then they are made anew. They are
        not kept in a compiled U-Net, which may not ask which tensor it has, nor for inference tensors, whose changes
        nobody counts.
        """
        if torch.compiler.is_compiling() or text.is_inference():
            return project_context(attn, text)
        kept = layer.cache.text
        if kept is None or kept[0] is not text or kept[1] != text._version:
            kept = layer.cache.text = (text, text._version, project_context(attn, text))
        return kept[2]

    def subject_term(
        self,
        routing: RoutingState,
        layer: LayerState,
        processor: RoutedCrossAttnProcessor,
        attn: Attention,
        hidden_states: Tensor,
        query: Tensor,
    ) -> Tensor:
        """What subjects add to a cross-attention, (R, H, L, e)."""
        call, encoded, batch = routing.call, routing.call.encoded, routing.call.encoded.batch_size
        logits = None
        if call.needs_router:
            router, folded = processor.router, layer.cache.folded
            folded = fold(router, encoded.routing) if folded is None else folded
            logits = absorbed_logits(router, folded, encoded.routing, hidden_states[-batch:], encoded.present)
        decision = routing.decide(layer, hidden_states.shape[1], logits)
        tokens = _kept(layer.cache, lambda: processor.projection(encoded.tokens))
        key, value = heads_of(*tokens, attn.heads, query.dtype)  # (B, S, H, m, e)
        if _groups_pixels(routing):
            term = grouped_slot_attention(query[-batch:], key, value, routing.groups(decision), routing.slot_scales)
        else:
            weights = decision.gate.flatten(2) * routing.slot_scales[:, :, None]
            term = slot_attention(query[-batch:], key, value, weights.to(query.dtype))
        if not call.guidance:
            return term
        return torch.cat([unconditional_term(query[:batch], key, value, call.unconditional), term])

    def self_attention(
        self,
        routing: RoutingState,
        layer: LayerState,
        decision: Decision,
        processor: RoutedSelfAttnProcessor,
        attn: Attention,
        hidden_states: Tensor,
    ) -> Tensor | None:
        """Self-attention with references, (R, L, d); None where no pixel reads one: the base's own is then the same."""
        call, batch = routing.call, routing.call.encoded.batch_size
        grouped, groups = _groups_pixels(routing), []
        if grouped:
            last = call.encoded.num_subjects  # the background's slot, which has no reference
            groups = [g for g in routing.groups(decision) if g.slot < last and routing.reads[g.sample][g.slot]]
        # A compiled U-Net may not ask the data.
        if not (groups if grouped else torch.compiler.is_compiling() or any(map(any, routing.reads))):
            return None
        query, key, value = project_in(attn, hidden_states)
        projection = processor.projection
        assert projection is not None
        features = _kept(layer.cache, lambda: projection(call.encoded.features_of(processor.layer)))
        references = heads_of(*features, attn.heads, query.dtype)  # (B, N, H, T, e)
        if grouped:
            return project_out(
                attn, grouped_reference_attention(query, key, value, *references, groups, routing.reference_bias)
            )
        gate = decision.gate[:, :-1].flatten(2)
        attended = merged_reference_attention(
            query[-batch:],
            key[-batch:],
            value[-batch:],
            *references,
            gate,
            routing.reference_bias,
            attend=fused_attention_with_lse,
        )
        if call.guidance:
            alone = F.scaled_dot_product_attention(query[:batch], key[:batch], value[:batch])
            attended = torch.cat([alone, attended])
        return project_out(attn, attended)


def _kept(cache: LayerCache, project: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Keys and values of a layer, all heads together, made only once."""
    if cache.projected is None:
        cache.projected = project()
    return cache.projected


def _groups_pixels(routing: RoutingState) -> bool:
    """Whether to group pixels by owner: they have one each, and sizes may depend on data."""
    return routing.call.gate.one_owner and not torch.compiler.is_compiling()
