"""The attention of a FLUX block with subjects: the routing map, the side streams, and what picture and text read.

The order of tokens is [text | appearances | picture]; the references follow as keys only. A reference reads itself.
Routing tokens read the picture and each other; nothing reads them. `reading` says what the others read.

Shapes: B samples, N subjects, L text and appearance tokens, S of the picture, T of a reference, D width, H heads of
width e.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from torch import Tensor

from anystory.models.flux.low_rank import LowRank
from anystory.models.flux.projections import heads_of, projected
from anystory.models.flux.reading import dense_attention, grouped_attention
from anystory.models.flux.state import FluxRoutingState
from anystory.models.flux.streams import Entered, Rotary, StreamBlock, turned


@dataclass(frozen=True, kw_only=True, eq=False)
class FluxLayer:
    """One block and all that the streams need of the adapter in it."""

    name: str
    """Of the block in the transformer."""
    first: bool
    """Whether no block runs before it."""
    last: bool
    """Whether none runs after it: nothing needs what the side streams would leave."""
    reference: StreamBlock
    routing: StreamBlock
    map_query: LowRank
    map_key: LowRank
    """Low-rank terms of the routing map's own queries and keys."""


class SubjectAttnProcessor:
    """A FLUX block's attention with subjects. Without `subject_conditioning`, or where nothing acts, diffusers' own.

    Args:
        layer: The block and its terms.
    """

    _attention_backend = None
    _parallel_config = None

    def __init__(self, layer: FluxLayer) -> None:
        self.layer = layer
        self.base: Any = FluxAttnProcessor()

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Rotary | None = None,
        subject_conditioning: FluxRoutingState | None = None,
    ) -> Any:
        given = hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb
        if subject_conditioning is None:
            return self.base(attn, *given)
        return self._with_subjects(attn, *given, subject_conditioning)  # pyright: ignore[reportCallIssue]

    @torch.compiler.disable  # what it does depends on the step and on data: a compiler would trace every layer anew
    def _with_subjects(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None,
        attention_mask: Tensor | None,
        image_rotary_emb: Rotary | None,
        state: FluxRoutingState,
    ) -> Any:
        if not state.present:
            return self.base(attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb)
        assert image_rotary_emb is not None
        single = encoder_hidden_states is None
        pixels = hidden_states.shape[1] - (state.text_tokens if single else 0)
        if self.layer.first:
            state.enter_first_block(len(hidden_states), pixels, hidden_states.dtype, hidden_states.device)
        self._advance_references(state)

        query, key, value, before_norm = projected(attn, hidden_states, encoder_hidden_states)
        query, key = turned(query, image_rotary_emb), turned(key, image_rotary_emb)
        if state.inputs.routes:
            logits = self._route(state, attn, pixels, hidden_states, before_norm, image_rotary_emb, key, value)
            state.decide(self.layer.name, logits)
        attended = self._attend(state, query, key, value, pixels).flatten(2, 3).to(query.dtype)
        if single:
            return attended
        text, picture = attended.split([attended.shape[1] - pixels, pixels], dim=1)
        return attn.to_out[1](attn.to_out[0](picture.contiguous())), attn.to_add_out(text.contiguous())

    # --- the side streams ---

    def _advance_references(self, state: FluxRoutingState) -> None:
        """The references through this block, each by itself; their keys and values are kept."""
        if state.reference_stream is None:
            return
        assert state.reference_time is not None
        block = self.layer.reference
        entered = block.enter(state.reference_stream, state.reference_time)
        query, key, value = block.project(entered.normed, state.reference_rotary)
        state.keep(self.layer.name, key, value)
        if not self.layer.last:
            state.reference_stream = block.leave(entered, dispatch_attention_fn(query, key, value))

    def _route(
        self,
        state: FluxRoutingState,
        attn: Any,
        pixels: int,
        hidden_states: Tensor,
        before_norm: Tensor,
        rotary: Rotary,
        key: Tensor,
        value: Tensor,
    ) -> Tensor | None:
        """The routing map's logits (B, N, S), where subjects compete, and the routing tokens through this block."""
        if state.routing_stream is None:
            return None
        assert state.routing_time is not None
        entered = self.layer.routing.enter(state.routing_stream, state.routing_time)
        picture = hidden_states[:, -pixels:]
        turn = rotary[0][-pixels:], rotary[1][-pixels:]
        map_key = attn.norm_k(before_norm[:, -pixels:] + heads_of(attn, self.layer.map_key(picture)))
        logits = self._map_logits(entered, turned(map_key, turn), state.inputs.most_subjects)
        if not self.layer.last:
            self._advance_routing(state, entered, key[:, -pixels:], value[:, -pixels:])
        return logits

    def _map_logits(self, entered: Entered, map_key: Tensor, subjects: int) -> Tensor:
        """(B, N, S): queries, means over heads and over a subject's tokens, times keys, means over heads."""
        query = self.layer.routing.plain_query(entered.normed, self.layer.map_query(entered.normed))
        query = query.unflatten(1, (subjects, -1)).mean(dim=(2, 3))  # (B, N, e)
        return query @ map_key.mean(dim=2).transpose(1, 2)

    def _advance_routing(self, state: FluxRoutingState, entered: Entered, key: Tensor, value: Tensor) -> None:
        """Routing tokens read the picture's keys (B, S, H, e) and those of all routing tokens of their sample."""
        block, own, mask = self.layer.routing, state.routing_mask, None
        query, own_key, own_value = block.project(entered.normed, None)
        if own is not None:
            mask = torch.cat([own.new_ones(key.shape[:2]), own], dim=1)[:, None, None]
        keys, values = torch.cat([key, own_key], dim=1), torch.cat([value, own_value], dim=1)
        state.routing_stream = block.leave(entered, dispatch_attention_fn(query, keys, values, attn_mask=mask))

    # --- what the picture and the text read ---

    def _attend(self, state: FluxRoutingState, query: Tensor, key: Tensor, value: Tensor, pixels: int) -> Tensor:
        """(B, L + S, H, e)."""
        owners = state.owners.get(self.layer.name)
        out = []
        for i, own_query in enumerate(query):
            references = state.references(self.layer.name, i)
            layout = state.layout(i, pixels, query)
            own = [part.length for part in layout.parts[: len(layout.parts) - len(references)]]
            keys = [*key[i].split(own), *(k.to(key, non_blocking=True) for k, _ in references)]
            values = [*value[i].split(own), *(v.to(value, non_blocking=True) for _, v in references)]
            if state.inputs.fast:
                groups = None if owners is None else state.groups[i] or state.inputs.group(owners[i])
                out.append(grouped_attention(own_query, keys, values, layout, groups))
            else:
                out.append(dense_attention(own_query, keys, values, layout, None if owners is None else owners[i]))
        return torch.stack(out)
