"""Queries, keys and values of a FLUX block: FLUX.1's, and FLUX.2's double ones, whose layers have the same names.

Shapes: B samples, L text tokens, S of the picture, D width, H heads of width e.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["heads_of", "projected"]


def projected(attn: Any, hidden_states: Tensor, text: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query, key, value of [text, picture], (B, L + S, H, e), normed; and the key of `hidden_states` before that.

    Args:
        attn: FLUX.1's attention of either kind of block, or FLUX.2's of a double one.
        hidden_states: (B, S, D) of the picture, or (B, L + S, D) of a single block.
        text: (B, L, D), or None.
    """
    if attn.fused_projections:
        query, key, value = (heads_of(attn, part) for part in attn.to_qkv(hidden_states).chunk(3, dim=-1))
    else:
        query, key, value = (heads_of(attn, layer(hidden_states)) for layer in (attn.to_q, attn.to_k, attn.to_v))
    plain = key
    query, key = attn.norm_q(query), attn.norm_k(key)
    if text is None:
        return query, key, value, plain
    if attn.fused_projections:
        of_text = [heads_of(attn, part) for part in attn.to_added_qkv(text).chunk(3, dim=-1)]
    else:
        of_text = [heads_of(attn, layer(text)) for layer in (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)]
    of_text[0], of_text[1] = attn.norm_added_q(of_text[0]), attn.norm_added_k(of_text[1])
    query, key, value = (torch.cat(pair, dim=1) for pair in zip(of_text, (query, key, value), strict=True))
    return query, key, value, plain


def heads_of(attn: Any, x: Tensor) -> Tensor:
    """(B, L, D) as (B, L, H, e)."""
    return x.unflatten(-1, (-1, attn.head_dim))
