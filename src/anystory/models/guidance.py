"""Classifier-free guidance: what the unconditional half of a U-Net's batch gets (D8).

With guidance the batch is [unconditional; conditional], 2B rows, and only the conditional half is routed. The
unconditional half reads no reference. In its cross-attention it gets

- "empty": the background's tokens at every pixel, `Attn(Q, E_{N+1} Ŵ_k, E_{N+1} Ŵ_v)`. The frozen base then sees what
  training showed it where no subject is.
- "base": nothing. It is the base model without an adapter.

Shapes: B samples, S slots with the background last, L pixels of a layer, H heads of width e, m subject tokens.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Unconditional = Literal["empty", "base"]


def check_unconditional(value: str) -> None:
    """Raises ValueError for anything but the two above."""
    if value not in get_args(Unconditional):
        raise ValueError(f"unconditional must be 'empty' or 'base', got {value!r}")


def background_everywhere(gate: Tensor) -> Tensor:
    """σ of a sample that is all background, in the shape of another σ (B, S, …)."""
    nobody = torch.zeros_like(gate)
    nobody[:, -1] = 1
    return nobody


def gate_of_both_halves(gate: Tensor, unconditional: Unconditional) -> Tensor:
    """σ of the whole batch, (2B, S, L), from σ of the conditional half (B, S, L): the rule in one line."""
    return torch.cat([background_everywhere(gate) if unconditional == "empty" else torch.zeros_like(gate), gate])


def unconditional_term(query: Tensor, key: Tensor, value: Tensor, unconditional: Unconditional) -> Tensor:
    """The same as a cross-attention term of the unconditional half alone, which a σ without choice makes cheap.

    Args:
        query: (B, H, L, e) of that half.
        key, value: (B, S, H, m, e).
        unconditional: which of the two.

    Returns:
        (B, H, L, e).
    """
    if unconditional == "base":
        return torch.zeros_like(query)
    return F.scaled_dot_product_attention(query, key[:, -1], value[:, -1])
