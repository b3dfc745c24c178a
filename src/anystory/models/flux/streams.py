"""A side stream through the transformer's blocks: the base's layers, each with the stream's low-rank term.

The references go through them as pictures do, the routing tokens as text does. Nothing of the base is changed.

Shapes: B rows of the stream, L tokens, D width, H heads of width e.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor

from anystory.models.flux.low_rank import LowRankTerms

Rotary = tuple[Tensor, Tensor]

_SINGLE = {
    "norm": "norm",
    "q": "attn.to_q",
    "k": "attn.to_k",
    "v": "attn.to_v",
    "norm_q": "attn.norm_q",
    "norm_k": "attn.norm_k",
}
_PICTURE = _SINGLE | {
    "norm": "norm1",
    "out": "attn.to_out.0",
    "norm_ff": "norm2",
    "ff_in": "ff.net.0",
    "ff_out": "ff.net.2",
}
_TEXT = {
    "norm": "norm1_context",
    "q": "attn.add_q_proj",
    "k": "attn.add_k_proj",
    "v": "attn.add_v_proj",
    "norm_q": "attn.norm_added_q",
    "norm_k": "attn.norm_added_k",
    "out": "attn.to_add_out",
    "norm_ff": "norm2_context",
    "ff_in": "ff_context.net.0",
    "ff_out": "ff_context.net.2",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Entered:
    """A stream at one block, before its attention."""

    hidden: Tensor
    """(B, L, D) as it came."""
    normed: Tensor
    """(B, L, D) after the block's adaptive norm: what is projected."""
    modulation: tuple[Tensor, ...]
    """What the norm leaves for later, each (B, D): gate; in a double block also shift, scale and gate of the MLP."""


class StreamBlock:
    """One block as one stream goes through it.

    Args:
        block: A FluxTransformerBlock (two streams) or FluxSingleTransformerBlock.
        path: Its name in the transformer, which is how its layers' terms are named.
        terms: The stream's.
        side: As what it goes through a double block.
    """

    def __init__(self, block: Any, path: str, terms: LowRankTerms, side: Literal["picture", "text"]) -> None:
        self.block, self.path, self.terms = block, path, terms
        self.single = not hasattr(block, "norm1_context")
        self.names = _SINGLE if self.single else _PICTURE if side == "picture" else _TEXT

    def enter(self, hidden: Tensor, embedded_time: Tensor) -> Entered:
        """The block's adaptive norm of (B, L, D) under the stream's own time embedding (B, D)."""
        norm = self.block.get_submodule(self.names["norm"])
        shift, scale, *rest = self._linear(f"{self.names['norm']}.linear", norm.silu(embedded_time)).chunk(
            3 if self.single else 6, dim=1
        )
        normed = norm.norm(hidden) * (1 + scale[:, None]) + shift[:, None]
        return Entered(hidden=hidden, normed=normed, modulation=tuple(rest))

    def project(self, normed: Tensor, rotary: Rotary | None) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, each (B, L, H, e), normed and turned; without `rotary` the positions are all zero."""
        query, key, value = (self._heads(self._linear(self.names[name], normed)) for name in "qkv")
        query, key = self._normed("norm_q", query), self._normed("norm_k", key)
        if rotary is None:
            return query, key, value
        return turned(query, rotary), turned(key, rotary), value

    def leave(self, entered: Entered, attended: Tensor) -> Tensor:
        """The block's output (B, L, D), given what the attention found, (B, L, H, e)."""
        attended = attended.flatten(2).to(entered.hidden.dtype)
        gate, *mlp = (part[:, None] for part in entered.modulation)
        if self.single:
            between = self.block.act_mlp(self._linear("proj_mlp", entered.normed))
            return entered.hidden + gate * self._linear("proj_out", torch.cat([attended, between], dim=2))
        shift, scale, mlp_gate = mlp
        hidden = entered.hidden + gate * self._linear(self.names["out"], attended)
        normed = self.block.get_submodule(self.names["norm_ff"])(hidden) * (1 + scale) + shift
        between = self.block.get_submodule(self.names["ff_in"])(normed)
        return hidden + mlp_gate * self._linear(self.names["ff_out"], between)

    def plain_query(self, normed: Tensor, addition: Tensor) -> Tensor:
        """The base's own query of (B, L, D), without the stream's term but with `addition`, normed: (B, L, H, e)."""
        query = self.block.get_submodule(self.names["q"])(normed) + addition
        return self._normed("norm_q", self._heads(query))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        out, term = self.block.get_submodule(name)(x), self.terms.get(f"{self.path}.{name}")
        return out if term is None else out + term(x)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.block.attn.head_dim))

    def _normed(self, name: str, x: Tensor) -> Tensor:
        return self.block.get_submodule(self.names[name])(x)


def turned(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotary position embedding of (B, L, H, e)."""
    return apply_rotary_emb(x, rotary, sequence_dim=1)  # pyright: ignore[reportReturnType,reportArgumentType]
