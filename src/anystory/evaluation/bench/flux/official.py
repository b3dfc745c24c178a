"""A call of the transformer with subjects as the authors' code computes it: what our form is compared with.

One dense bias a layer over all heads, rows and keys; all tokens of the references as keys, shown by their masks or not;
the router in every such step, with one subject, too; and the picture's keys projected once more for the routing map.
Tests hold it against the numbers of the authors' own code.

Shapes: N subjects, L text and appearance tokens, S of the picture, T of a reference, R routing tokens, H heads of width
e. The batch is 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import Tensor

from anystory.models.flux.embedder import reference_ids
from anystory.models.flux.inputs import FluxInputs
from anystory.models.flux.low_rank import LowRank, LowRankTerms
from anystory.models.flux.state import Acting, KeysValues
from anystory.models.flux.streams import Entered, Rotary, StreamBlock, turned
from anystory.models.flux_adapter import FluxSubjectAdapter

_HIDDEN = 100.0
"""Taken off the score of a key that a row is not to read."""


@dataclass(kw_only=True, eq=False)
class OfficialCall:
    """One picture's calls of the transformer. Set `acting` before each."""

    transformer: Any
    adapter: FluxSubjectAdapter
    inputs: FluxInputs
    """For one sample without regions; `use_router` is obeyed, scales of subjects are not."""
    acting: Acting = field(default_factory=Acting)
    cached: dict[str, KeysValues] = field(default_factory=dict)
    """{block: keys and values (1, N · T, H, e)}."""
    owners: dict[str, Tensor] = field(default_factory=dict)
    """{block: (1, S) subject} of the last step."""
    text_tokens: int = field(default=0, init=False)
    """L."""
    reference_stream: Tensor | None = field(default=None, init=False)
    """(1, N · T, D)."""
    routing_stream: Tensor | None = field(default=None, init=False)
    """(1, R, D)."""
    reference_time: Tensor | None = field(default=None, init=False)
    routing_time: Tensor | None = field(default=None, init=False)
    reference_rotary: Rotary | None = field(default=None, init=False)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Inside, the transformer draws with the subjects."""
        transformer = self.transformer
        blocks = {name.removesuffix(".attn.processor"): name for name in transformer.attn_processors}
        before = transformer.attn_processors

        def begin(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            return args, self._begin(kwargs)

        hook = transformer.register_forward_pre_hook(begin, with_kwargs=True)
        try:
            transformer.set_attn_processor({name: _Processor(self, block) for block, name in blocks.items()})
            yield
        finally:
            hook.remove()
            transformer.set_attn_processor(before)

    @property
    def caching(self) -> bool:
        """Whether the references run in this call."""
        return self.reference_stream is not None

    def _begin(self, arguments: dict[str, Any]) -> dict[str, Any]:
        inputs, text, ids = self.inputs, arguments["encoder_hidden_states"], arguments["txt_ids"]
        dtype = text.dtype
        self.reference_stream = self.routing_stream = None
        if self.acting.appearance:
            tokens = inputs.appearance_tokens(1).to(dtype)
            text = torch.cat([text, tokens], dim=1)
            ids = torch.cat([ids, ids.new_zeros(tokens.shape[1], ids.shape[-1])])
        self.text_tokens = text.shape[1]
        if self.acting.references and not self.cached:
            latents = torch.cat([reference.latents for reference in inputs.references])[None].to(dtype)
            self.reference_stream = self._embedded("x_embedder", latents, self.adapter.reference_terms)
            self.reference_time = self._time(arguments, torch.zeros_like(arguments["timestep"]))
            count = inputs.references[0].latents.shape[0]
            places = reference_ids(round(count**0.5), latents.device).repeat(len(inputs.references), 1)
            self.reference_rotary = self.transformer.pos_embed(places)
        if inputs.use_router and self.acting:
            self.routing_stream = self._embedded(
                "context_embedder", inputs.routing_tokens(1).to(dtype), self.adapter.routing_terms
            )
            self.routing_time = self._time(arguments, arguments["timestep"])
        return arguments | {"encoder_hidden_states": text, "txt_ids": ids}

    def _embedded(self, name: str, tokens: Tensor, terms: LowRankTerms) -> Tensor:
        term = terms.get(name)
        return self.transformer.get_submodule(name)(tokens) + (0 if term is None else term(tokens))

    def _time(self, arguments: dict[str, Any], time: Tensor) -> Tensor:
        guidance, pooled, dtype = arguments.get("guidance"), arguments["pooled_projections"], self.transformer.dtype
        given = [] if guidance is None else [guidance.to(dtype) * 1000]
        return self.transformer.time_text_embed(time.to(dtype) * 1000, *given, pooled)


class _Processor:
    """The attention of one block."""

    _attention_backend = None
    _parallel_config = None

    def __init__(self, call: OfficialCall, block: str) -> None:
        self.call, self.name = call, block
        module, adapter = call.transformer.get_submodule(block), call.adapter
        self.reference = StreamBlock(module, block, adapter.reference_terms, "picture")
        self.routing = StreamBlock(module, block, adapter.routing_terms, "text")
        self.map_terms = [_found(adapter.map_terms.get(f"{block}.{side}")) for side in ("query", "key")]

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
    ) -> Any:
        call, text = self.call, encoder_hidden_states
        picture = hidden_states if text is not None else hidden_states[:, call.text_tokens :]
        projected = _projected(attn, (attn.to_q, attn.to_k, attn.to_v), hidden_states, attn.norm_q, attn.norm_k)
        if text is not None:
            layers = attn.add_q_proj, attn.add_k_proj, attn.add_v_proj
            of_text = _projected(attn, layers, text, attn.norm_added_q, attn.norm_added_k)
            projected = tuple(torch.cat(pair, dim=1) for pair in zip(of_text, projected, strict=True))
        query, key, value = projected
        rows = [(turned(query, image_rotary_emb), turned(key, image_rotary_emb), value)]

        reference = routing = owners = None
        if call.reference_stream is not None:
            assert call.reference_time is not None
            reference = self.reference.enter(call.reference_stream, call.reference_time)
            rows.append(self.reference.project(reference.normed, call.reference_rotary))
            call.cached[self.name] = rows[-1][1:]
        if call.routing_stream is not None:
            assert call.routing_time is not None
            routing = self.routing.enter(call.routing_stream, call.routing_time)
            owners = call.owners[self.name] = self._owners(attn, routing, picture, text is not None, image_rotary_emb)
        own = None if routing is None else self.routing.project(routing.normed, None)
        found, of_references, of_routing = self._attend(rows, own, owners)
        if reference is not None and of_references is not None:
            call.reference_stream = self.reference.leave(reference, of_references)
        if routing is not None and of_routing is not None:
            call.routing_stream = self.routing.leave(routing, of_routing)
        attended = found.flatten(2)
        if text is None:
            return attended
        return (
            attn.to_out[1](attn.to_out[0](attended[:, call.text_tokens :].contiguous())),
            attn.to_add_out(attended[:, : call.text_tokens].contiguous()),
        )

    def _owners(self, attn: Any, routing: Entered, picture: Tensor, double: bool, rotary: Rotary) -> Tensor:
        """(1, S), after projecting both anew without the streams' terms."""
        query_term, key_term = self.map_terms
        layer, norm = (attn.add_q_proj, attn.norm_added_q) if double else (attn.to_q, attn.norm_q)
        query = norm(_heads(attn, layer(routing.normed) + query_term(routing.normed)))
        key = attn.norm_k(_heads(attn, attn.to_k(picture) + key_term(picture)))
        key = turned(key, (rotary[0][-key.shape[1] :], rotary[1][-key.shape[1] :]))
        subjects = len(self.call.inputs.references)
        logits = query.unflatten(1, (subjects, -1)).mean(dim=(2, 3)) @ key.mean(dim=2).transpose(1, 2)
        return logits.argmax(dim=1)

    def _attend(
        self, rows: list[tuple[Tensor, Tensor, Tensor]], routing: Any, owners: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What text, appearances and picture find, what the references find, and what the routing tokens find."""
        call = self.call
        length = rows[0][0].shape[1]
        queries, keys, values = ([row[i] for row in rows] for i in range(3))
        if not call.caching and call.acting.references:
            keys, values = [*keys, call.cached[self.name][0]], [*values, call.cached[self.name][1]]
        read = sum(key.shape[1] for key in keys)
        if routing is not None:
            queries, keys, values = ([*those, own] for those, own in zip((queries, keys, values), routing, strict=True))
        query, key, value = (torch.cat(those, dim=1) for those in (queries, keys, values))
        bias = self._bias(query, key, length, read, owners)
        found = dispatch_attention_fn(
            query[:, :length],
            key[:, :read],
            value[:, :read],
            attn_mask=None if bias is None else bias[:, :, :length, :read],
        )
        references = None
        if call.caching:
            apart = (len(call.inputs.references), -1)
            own_query, own_key, own_value = (part[0, length:read].unflatten(0, apart) for part in (query, key, value))
            references = dispatch_attention_fn(own_query, own_key, own_value).flatten(0, 1)[None]
        if routing is None:
            return found, references, None
        own_key, own_value = (torch.cat([t[:, call.text_tokens : length], t[:, read:]], dim=1) for t in (key, value))
        return found, references, dispatch_attention_fn(queries[-1], own_key, own_value)

    def _bias(self, query: Tensor, key: Tensor, length: int, read: int, owners: Tensor | None) -> Tensor | None:
        """(1, H, rows, keys), all of them."""
        inputs, texts = self.call.inputs, self.call.text_tokens
        if not inputs.reference_shift and not inputs.use_masks and owners is None:
            return None
        bias = query.new_zeros(1, query.shape[2], query.shape[1], key.shape[1])
        if read > length:
            bias[:, :, :length, length:read] += inputs.reference_shift
            if inputs.use_masks:
                shown = torch.cat([reference.mask for reference in inputs.references]).to(bias)
                bias[:, :, :length, length:read] += (shown - 1) * _HIDDEN
        if owners is None:
            return bias
        subjects = torch.arange(len(inputs.references), device=owners.device)
        theirs = ((owners[0, :, None] == subjects).to(bias) - 1) * _HIDDEN  # (S, N)
        if self.call.acting.appearance:
            tokens = len(inputs.references[0].appearance)
            place = slice(texts - tokens * len(inputs.references), texts)
            bias[:, :, texts:length, place] += theirs.repeat_interleave(tokens, dim=1)
        if read > length:
            tokens = len(inputs.references[0].latents)
            bias[:, :, texts:length, length:read] += theirs.repeat_interleave(tokens, dim=1)
        return bias


def _projected(attn: Any, layers: Sequence[Any], x: Tensor, norm_q: Any, norm_k: Any) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = (_heads(attn, layer(x)) for layer in layers)
    return norm_q(query), norm_k(key), value


def _heads(attn: Any, x: Tensor) -> Tensor:
    return x.unflatten(-1, (-1, attn.head_dim))


def _found(term: LowRank | None) -> LowRank:
    assert term is not None, "an adapter that fits has the terms of every block's map"
    return term
