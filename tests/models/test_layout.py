from __future__ import annotations

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from anystory.models import unet_layout
from anystory.models.layout import layout_of_config
from models.tiny import SDXL_UNET, UNET, make_unet, run_unet


def test_layout_is_the_order_of_execution(unet):
    executed = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: executed.append(name))
        for name, module in unet.named_modules()
        if name.endswith((".attn1", ".attn2"))
    ]
    run_unet(unet)
    for hook in hooks:
        hook.remove()
    layers = unet_layout(unet)
    assert executed == [name for layer in layers for name in (layer.self_attention, layer.cross_attention)]
    registered = [name.removesuffix(".processor") for name in unet.attn_processors]
    assert registered != executed  # why this file exists


def test_layout_knows_the_widths(unet):
    layers = {layer.self_attention: layer for layer in unet_layout(unet)}
    assert layers["down_blocks.1.attentions.0.transformer_blocks.0.attn1"].dim == 16
    assert layers["mid_block.attentions.0.transformer_blocks.1.attn1"].inner_dim == 24
    assert {layer.context_dim for layer in layers.values()} == {20}


def test_layout_of_a_config_is_that_of_its_unet(unet):
    assert layout_of_config(UNET) == unet_layout(unet)


def test_sdxl_has_70_layers():
    layers = layout_of_config(SDXL_UNET)
    assert len(layers) == 70
    assert sum(layer.self_attention.startswith("mid_block") for layer in layers) == 10
    assert layers[0].self_attention == "down_blocks.1.attentions.0.transformer_blocks.0.attn1"
    assert layers[-1].cross_attention == "up_blocks.1.attentions.2.transformer_blocks.1.attn2"


def test_unet_without_attention_is_refused():
    with torch.device("meta"):
        plain = UNet2DConditionModel(
            down_block_types=("DownBlock2D",),
            up_block_types=("UpBlock2D",),
            mid_block_type=None,
            block_out_channels=(32,),
        )
    with pytest.raises(ValueError, match="unet has no transformer blocks"):
        unet_layout(plain)


def test_block_without_self_attention_is_refused():
    odd = make_unet(only_cross_attention=(False, False, True))
    with pytest.raises(ValueError, match=r"down_blocks\.2\.attentions\.0.* is not a self-attention followed by"):
        unet_layout(odd)
