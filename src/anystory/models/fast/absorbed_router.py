"""The router with its projections of the pixels folded into the slots' side.

Nothing nonlinear stands between the hidden states `Z` and an inner product, so `(R A)(Z B)ᵀ = (R A Bᵀ) Zᵀ`: for a
few slots that is far cheaper than projecting every pixel. The keys of the masked cross-attention fold into its
queries in the same way, head by head, and its values are projected after they have been averaged.

Shapes: B samples, S slots, L pixels of a layer, d its width, d_r routing width, H heads of width e.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anystory.models.casting import working, working_dtype
from anystory.models.router import Router, mask_absent, owner_mask


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldedSlots:
    """What the slots ask of the hidden states before these are known: it depends on `R` alone, not on the step."""

    rows: Tensor
    """(B, S + S · H, d): the coarse maps' vectors, then the masked cross-attention's folded queries."""
    coarse_offset: Tensor
    """(B, S, 1) float32: what the bias of the pixels' projection adds to a slot's coarse logits."""


def fold(router: Router, routing: Tensor) -> FoldedSlots:
    """Folds a router's projections into the routing features (B, S, d_r)."""
    routing = routing.to(working_dtype(router.to_q))
    slot, pixel = router.coarse_pair
    coarse, offset = _fold_map(slot(routing), pixel)
    width = router.to_q.out_features // router.heads
    queries = router.to_q(routing).unflatten(-1, (router.heads, width)) * width**-0.5  # (B, S, H, e)
    key_weight = working(router.to_k)[0].unflatten(0, (router.heads, width))  # (H, e, d)
    folded = torch.einsum("bshe,hed->bshd", queries, key_weight)
    return FoldedSlots(rows=torch.cat([coarse, folded.flatten(1, 2)], dim=1), coarse_offset=offset)


def absorbed_logits(
    router: Router, folded: FoldedSlots, routing: Tensor, hidden_states: Tensor, present: Tensor
) -> tuple[Tensor, Tensor]:
    """What `Router.forward` returns.

    Args:
        router: the router of the layer.
        folded: `fold(router, routing)`.
        routing: (B, S, d_r).
        hidden_states: (B, L, d).
        present: (B, S) bool.

    Returns:
        coarse and refined logits, both (B, S, L) float32, −∞ for absent slots.
    """
    dtype = working_dtype(router.to_q)
    routing, hidden_states = routing.to(dtype), hidden_states.to(dtype)
    slots = routing.shape[1]
    products = torch.matmul(folded.rows, hidden_states.transpose(1, 2)).float()  # (B, S + S · H, L)
    coarse = mask_absent(products[:, :slots] + folded.coarse_offset, present)
    scores = products[:, slots:].unflatten(1, (slots, router.heads))
    scores = scores.masked_fill(~owner_mask(coarse)[:, :, None], float("-inf"))
    # (B, S · H, d): the hidden states as each slot's heads see them, not yet projected to values.
    seen = torch.matmul(scores.softmax(dim=-1).to(dtype).flatten(1, 2), hidden_states)
    value_weight = working(router.to_v)[0].unflatten(0, (router.heads, -1))
    attended = torch.einsum("bshd,hed->bshe", seen.unflatten(1, (slots, router.heads)), value_weight)
    refined_routing = router.norm(routing + router.to_out(attended.flatten(2)))
    slot, pixel = router.refined_pair
    rows, offset = _fold_map(slot(refined_routing), pixel)
    refined = torch.matmul(rows, hidden_states.transpose(1, 2)).float() + offset
    return coarse, mask_absent(refined, present)


def _fold_map(slots: Tensor, pixel: nn.Linear) -> tuple[Tensor, Tensor]:
    """`slots · pixel(Z)ᵀ / √d_k` as `rows Zᵀ + offset`. (B, S, d_k) -> (B, S, d), (B, S, 1) float32."""
    slots = slots * slots.shape[-1] ** -0.5
    weight, bias = working(pixel)
    assert bias is not None
    return slots @ weight, (slots @ bias).float()[..., None]
