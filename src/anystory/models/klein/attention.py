"""The attention of FLUX.2's blocks with subjects: the stock projections, and rows that read what their plan says.

Shapes: B samples, Q tokens of text, picture and references, D width, H heads of width e.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import Tensor

from anystory.models.flux.projections import heads_of, projected
from anystory.models.flux.streams import Rotary, turned
from anystory.models.klein.state import KleinState

__all__ = ["installed_on"]


@contextmanager
def installed_on(transformer: Any, state: KleinState) -> Iterator[None]:
    """Inside, a Flux2Transformer2DModel draws with subjects; its own processors come back afterwards."""
    before = transformer.attn_processors
    processors = {name: _processor(transformer, name, before[name], state) for name in before}

    @torch.compiler.disable  # it decides by data, which a compiler would trace anew in each step
    def begin(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, state.begin(kwargs)

    hook = transformer.register_forward_pre_hook(begin, with_kwargs=True)
    try:
        transformer.set_attn_processor(processors)
        yield
    finally:
        hook.remove()
        transformer.set_attn_processor(before)


def _processor(transformer: Any, name: str, before: Any, state: KleinState) -> Any:
    layer = name.removesuffix(".attn.processor")
    single = hasattr(transformer.get_submodule(f"{layer}.attn"), "to_qkv_mlp_proj")
    return (SingleAttnProcessor if single else DoubleAttnProcessor)(state, layer, before)


class _AttnProcessor:
    """What both kinds share.

    Args:
        state: Of the call.
        layer: The block's name in the transformer.
        base: The block's own processor, for calls in which all rows read everything.
    """

    _attention_backend = None
    _parallel_config = None

    def __init__(self, state: KleinState, layer: str, base: Any) -> None:
        self.state = state
        self.layer = layer
        self.base = base

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, rotary: Rotary | None, mask: Tensor | None) -> Tensor:
        """(B, Q, H, e) each."""
        if rotary is not None:
            query, key = turned(query, rotary), turned(key, rotary)
        if self._gathers:
            assert self.state.gathering is not None
            self.state.gathering.gather(query, key)
        if not self.state.plans:
            return dispatch_attention_fn(query, key, value, attn_mask=mask)
        out = torch.empty_like(query)
        for samples, plan in self.state.plans:
            if samples is None:
                return plan.attend(query, key, value)
            out[samples] = plan.attend(query[samples], key[samples], value[samples])
        return out

    @property
    def _gathers(self) -> bool:
        return self.state.gathering is not None and self.state.gathering.wants(self.layer)

    @property
    def _is_stock(self) -> bool:
        return not self.state.plans and not self._gathers


class DoubleAttnProcessor(_AttnProcessor):
    """Of a block that keeps text and pictures apart."""

    @torch.compiler.disable  # what it does depends on the step: a compiler would trace every layer anew
    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Rotary | None = None,
    ) -> Any:
        if self._is_stock:
            return self.base(attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb)
        assert encoder_hidden_states is not None
        query, key, value, _ = projected(attn, hidden_states, encoder_hidden_states)
        attended = self._attend(query, key, value, image_rotary_emb, attention_mask).flatten(2, 3).to(query.dtype)
        text, pictures = attended.split([encoder_hidden_states.shape[1], hidden_states.shape[1]], dim=1)
        return attn.to_out[1](attn.to_out[0](pictures)), attn.to_add_out(text)


class SingleAttnProcessor(_AttnProcessor):
    """Of a block of one stream, whose attention and MLP share their projections."""

    @torch.compiler.disable
    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Rotary | None = None,
    ) -> Tensor:
        if self._is_stock:
            return self.base(attn, hidden_states, attention_mask, image_rotary_emb)
        widths = [attn.inner_dim] * 3 + [attn.mlp_hidden_dim * attn.mlp_mult_factor]
        *heads, mlp = attn.to_qkv_mlp_proj(hidden_states).split(widths, dim=-1)
        query, key, value = (heads_of(attn, x) for x in heads)
        query, key = attn.norm_q(query), attn.norm_k(key)
        attended = self._attend(query, key, value, image_rotary_emb, attention_mask).flatten(2, 3).to(query.dtype)
        return attn.to_out(torch.cat([attended, attn.mlp_act_fn(mlp)], dim=-1))
