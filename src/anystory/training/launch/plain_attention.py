"""Attention as two products and a softmax: on a CPU the form that trains quickest at our lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class PlainAttention(TorchFunctionMode):
    """Inside, `scaled_dot_product_attention` is computed by `plain_attention` wherever that knows the case.

    Torch's own plain form (`SDPBackend.MATH`) looks through all scores of all heads for rows in which nothing may be
    attended to. Here the mask alone is looked through, where there is one: it is smaller.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and (found := plain_attention(*args, **kwargs)) is not None:
            return found
        return func(*args, **kwargs)


def plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor | None:
    """softmax(scale · Q Kᵀ + mask) V, (…, L, e), with the arguments of `scaled_dot_product_attention`.

    Returns:
        None for what it does not compute: dropout, causal or grouped attention, a mask with a row that allows nothing.
    """
    if dropout_p or is_causal or enable_gqa:
        return None
    if attn_mask is not None and not _every_row_attends(attn_mask):
        return None
    scores = torch.matmul(query * (query.shape[-1] ** -0.5 if scale is None else scale), key.transpose(-2, -1))
    if attn_mask is not None:
        is_bool = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, float("-inf")) if is_bool else scores + attn_mask
    return torch.matmul(scores.softmax(dim=-1).to(value.dtype), value)


def _every_row_attends(mask: Tensor) -> bool:
    """Whether a mask allows each query something; without, the softmax would be 0 / 0."""
    allowed = mask.any(dim=-1) if mask.dtype == torch.bool else mask.amax(dim=-1) > float("-inf")
    return bool(allowed.all())
