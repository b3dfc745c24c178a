"""From what SigLIP sees of a reference to tokens: the Redux embedder with low-rank terms, a gate and masked pooling.

Shapes: B references, G × G SigLIP tokens (27 × 27), C width of the text encoder's states, k × k tokens of the result.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anystory.models.flux.low_rank import LowRank

_EPSILON = 1e-6


class ReferenceEmbedder(nn.Module):
    """`P_k(g y) / (P_k(g) + ε)` where a window holds any of the subject, else 0; P_k is the mean over k × k windows.

    `y` comes from Redux' own two layers, each with a low-rank term, and `g = sigmoid(w y + b)`. The mask does not weigh
    the mean. The appearance tokens have k = 9, the routing tokens k = 3 with weights of their own.

    Args:
        redux_dim: Width of SigLIP's states (1152).
        text_dim: C, width of the text encoder's states (4096).
        grid: k.
        rank: Of both low-rank terms (128).
        bias: Whether these have biases.

    Raises:
        ValueError: in a call, a number of SigLIP tokens that is no square.
    """

    def __init__(self, redux_dim: int, text_dim: int, grid: int, rank: int = 128, bias: bool = True) -> None:
        super().__init__()
        self.grid = grid
        self.up = nn.Linear(redux_dim, 3 * text_dim)
        self.up_term = LowRank(redux_dim, 3 * text_dim, rank, bias)
        self.down = nn.Linear(3 * text_dim, text_dim)
        self.down_term = LowRank(3 * text_dim, text_dim, rank, bias)
        self.gate = nn.Linear(text_dim, 1)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """SigLIP's last states (B, G · G, redux_dim) and the subject's mask on them (B, G · G) -> (B, k · k, C)."""
        side = math.isqrt(states.shape[1])
        if side * side != states.shape[1]:
            raise ValueError(f"SigLIP's {states.shape[1]} tokens are not a square: the pooling needs rows and columns")
        hidden = F.silu(self.up(states) + self.up_term(states))
        tokens = self.down(hidden) + self.down_term(hidden)
        gate = self.gate(tokens).sigmoid()
        pooled = self._pool(tokens * gate, side) / (self._pool(gate, side) + _EPSILON)
        return pooled * (self._pool(mask[..., None].to(tokens), side) > 0)

    def _pool(self, tokens: Tensor, side: int) -> Tensor:
        """(B, G · G, c) -> (B, k · k, c)."""
        grid = tokens.transpose(1, 2).unflatten(2, (side, side))
        return F.adaptive_avg_pool2d(grid, self.grid).flatten(2).transpose(1, 2)


def pooled_mask(mask: Tensor, side: int) -> Tensor:
    """Which of side × side cells hold any of a mask (B, 1, H, W) in [0, 1]; (B, side · side) bool."""
    return (F.adaptive_avg_pool2d(mask, (side, side)) > 0).flatten(1)


def reference_ids(side: int, device: torch.device) -> Tensor:
    """Position ids (side · side, 3) of a reference's tokens, rows (0, y, x − side): left of the picture, all alike."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side) - side, indexing="ij")
    ids = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1)
    return ids.flatten(0, 1).to(device=device, dtype=torch.float32)
