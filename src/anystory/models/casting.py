"""Weights that are stored in one type and work in another: diffusers' `enable_layerwise_casting`.

Its hooks cast a layer's weights while the layer runs. Where weights are read beside that, these functions cast them.
"""

from __future__ import annotations

import torch
from diffusers.models.modeling_utils import get_parameter_dtype
from torch import Tensor, nn

__all__ = ["working", "working_dtype"]


def working_dtype(layer: nn.Linear) -> torch.dtype:
    """The type in which a layer computes."""
    stored = layer.weight.dtype
    return stored if stored.itemsize > 1 else get_parameter_dtype(layer)


def working(layer: nn.Linear) -> tuple[Tensor, Tensor | None]:
    """A layer's weight and bias in the type in which it computes."""
    dtype = working_dtype(layer)
    return layer.weight.to(dtype), None if layer.bias is None else layer.bias.to(dtype)
