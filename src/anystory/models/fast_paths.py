"""FastPaths: which parts of the exact algebra (part 3 of the method) a call uses. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FastPaths:
    """Each is an equal way to a cheaper result: switching one off changes cost and rounding, nothing else.

    They are taken only where no gradient can be asked for; training always takes the plain way.
    """

    reuse: bool = True
    """Keys and values of references, and the router's folded weights, are computed once and not at every step."""
    text_once: bool = True
    """So are the keys and values of the prompt in every cross-attention, as long as the same tensor comes back."""
    absorbed_router: bool = True
    """The router's projections of every pixel are folded into the few slots' side."""
    merged_attention: bool = True
    """Self-attention runs without a mask; references are merged in by their log-sum-exp, not as masked keys."""
    grouped_pixels: bool = True
    """Pixels are grouped by owner, so that each meets the keys of its own subject only: the cost is independent
    of N. In self-attention this needs `merged_attention`. Group sizes are data, so a compiled U-Net, whose shapes
    must not depend on data, does without."""
    conditional_only: bool = True
    """With guidance, router and references run on the conditional half of the batch only (D8)."""


ALL = FastPaths()
"""Inference."""

DIFFERENTIABLE = FastPaths(
    reuse=False, text_once=False, absorbed_router=False, merged_attention=False, grouped_pixels=False
)
"""Training: these keep every gradient that the plain equations have."""

PLAIN = FastPaths(
    reuse=False,
    text_once=False,
    absorbed_router=False,
    merged_attention=False,
    grouped_pixels=False,
    conditional_only=False,
)
"""The method as its equations read: what every fast path must equal."""
