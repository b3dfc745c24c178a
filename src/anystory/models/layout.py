"""Where the attention layers of a U-Net are, in the order in which they run.

`unet.attn_processors` lists layers in registration order (down, up, mid). "The preceding cross-attention" of
the method needs the order of execution (down, mid, up), which is what this file gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from anystory.models.saved.families import describe_counts


@dataclass(frozen=True, kw_only=True)
class AttentionLayer:
    """One transformer block: a self-attention followed by a cross-attention."""

    self_attention: str
    """Module path of the self-attention, e.g. `down_blocks.1.attentions.0.transformer_blocks.0.attn1`."""
    cross_attention: str
    """Module path of the cross-attention, `….attn2`."""
    dim: int
    """d: width of the hidden states."""
    inner_dim: int
    """Width of keys and values, all heads together."""
    context_dim: int
    """Width of the text tokens that the cross-attention reads."""


def transformer_blocks(unet: UNet2DConditionModel) -> Iterator[tuple[str, BasicTransformerBlock]]:
    """Yields (module path, block) of every transformer block in the order of execution."""
    stages: list[tuple[str, Any]] = [(f"down_blocks.{i}", block) for i, block in enumerate(unet.down_blocks)]
    if unet.mid_block is not None:
        stages.append(("mid_block", unet.mid_block))
    stages += [(f"up_blocks.{i}", block) for i, block in enumerate(unet.up_blocks)]
    for stage, block in stages:
        for j, attention in enumerate(getattr(block, "attentions", None) or ()):
            for k, transformer in enumerate(getattr(attention, "transformer_blocks", ())):
                yield f"{stage}.attentions.{j}.transformer_blocks.{k}", transformer


def unet_layout(unet: UNet2DConditionModel) -> tuple[AttentionLayer, ...]:
    """The attention layers of a U-Net of the SDXL kind, in the order of execution.

    Raises:
        ValueError: there are none, or a block is not one self-attention followed by one cross-attention.
    """
    layers = []
    for name, block in transformer_blocks(unet):
        if block.attn2 is None or block.only_cross_attention or not block.attn2.is_cross_attention:
            raise ValueError(f"unet: {name} is not a self-attention followed by a cross-attention")
        layers.append(
            AttentionLayer(
                self_attention=f"{name}.attn1",
                cross_attention=f"{name}.attn2",
                dim=block.attn1.query_dim,
                inner_dim=block.attn1.inner_dim,
                context_dim=block.attn2.cross_attention_dim,
            )
        )
    if not layers:
        raise ValueError("unet has no transformer blocks: an adapter needs self- and cross-attention layers")
    return tuple(layers)


def layout_of_config(unet_config: Mapping[str, Any]) -> tuple[AttentionLayer, ...]:
    """The layout of a U-Net that is known by its configuration only; no weights are allocated."""
    with torch.device("meta"):
        return unet_layout(UNet2DConditionModel(**unet_config))


def describe_layout(layers: Sequence[AttentionLayer]) -> str:
    """`70 attention layers (text width 2048: SDXL)`."""
    return describe_counts(len(layers), layers[0].context_dim)


def check_layout(unet: Any, layers: Sequence[AttentionLayer]) -> None:
    """Raises ValueError, saying where, if a U-Net's attention layers are not those that an adapter was made for."""
    refusal = "the adapter does not fit this {}: it was made for {}"
    if not isinstance(unet, UNet2DConditionModel):
        raise ValueError(refusal.format(type(unet).__name__, f"a U-Net with {describe_layout(layers)}"))
    theirs = unet_layout(unet)
    if len(theirs) != len(layers):
        raise ValueError(refusal.format("U-Net", f"{describe_layout(layers)}, the U-Net has {describe_layout(theirs)}"))
    for own, other in zip(layers, theirs, strict=True):
        if own != other:
            raise ValueError(refusal.format("U-Net", f"{_describe(own)}, the U-Net has {_describe(other)} there"))


def _describe(layer: AttentionLayer) -> str:
    return (
        f"{layer.self_attention} and {layer.cross_attention} of width {layer.dim} "
        f"(keys {layer.inner_dim}, text {layer.context_dim})"
    )
