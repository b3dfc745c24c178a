from __future__ import annotations

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from torch.utils._pytree import tree_map

from anystory.models import ReferenceNet, unet_layout
from anystory.models.layout import transformer_blocks
from anystory.models.reference_net import config_of_unet
from models.tiny import SDXL_UNET, UNET, make_unet, seeded


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def plain_features(unet: UNet2DConditionModel, latents: torch.Tensor) -> dict[str, torch.Tensor]:
    """The same from the whole U-Net: cross-attentions silenced, no conditions, what `norm1` gives is caught."""
    twin = make_unet(**{**config_of_unet(unet), "addition_embed_type": None})
    twin.load_state_dict({name: unet.state_dict()[name] for name in twin.state_dict()})
    for name, parameter in twin.named_parameters():
        if ".attn2.to_out." in name:
            nn.init.zeros_(parameter)
    caught = {}
    for name, module in twin.named_modules():
        if name.endswith(".norm1") and "transformer_blocks" in name:
            layer = name.replace("norm1", "attn1")
            module.register_forward_hook(lambda _module, _args, out, layer=layer: caught.update({layer: out}))
    with torch.no_grad():
        twin(latents, 0, encoder_hidden_states=torch.randn(len(latents), 6, 20))
    return caught


@pytest.mark.parametrize("size", [(8, 8), (8, 12), (7, 9)])
def test_features_are_those_of_the_unet_without_cross_attention(unet, size):
    net = ReferenceNet.from_unet(unet)
    latents = torch.randn(2, 4, *size, generator=seeded(0))
    with torch.no_grad():
        features = net(latents, torch.rand(2, 1, *size, generator=seeded(1)))
    expected = plain_features(unet, latents)
    for layer, value in features.items():
        torch.testing.assert_close(value, expected[layer], msg=layer)


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_pruning_changes_no_feature(unet, size):
    pruned, whole = (ReferenceNet.from_unet(unet, pruned=pruned) for pruned in (True, False))
    assert count(pruned) < count(whole)
    latents, mask = torch.randn(2, 4, *size, generator=seeded(0)), torch.rand(2, 1, *size, generator=seeded(1))
    with torch.no_grad():
        for (layer, value), expected in zip(pruned(latents, mask).items(), whole(latents, mask).values(), strict=True):
            assert torch.equal(value, expected), layer


def test_features_arrive_where_modules_are_handed_copies_of_containers(unet):
    """As FSDP2 does to find the tensors in a module's arguments."""
    net = ReferenceNet.from_unet(unet)
    inputs = torch.randn(2, 4, 8, 8, generator=seeded(0)), torch.rand(2, 1, 8, 8, generator=seeded(1))
    with torch.no_grad():
        expected = net(*inputs)
        for _, block in transformer_blocks(net.unet):
            block.register_forward_pre_hook(
                lambda _, args, named: tree_map(lambda x: x, (args, named)), with_kwargs=True
            )
        found = net(*inputs)
    assert list(found) == list(expected)
    assert all(torch.equal(found[layer], value) for layer, value in expected.items())


ATTENTION_EVERYWHERE = {
    "down_block_types": ("CrossAttnDownBlock2D",) * 3,
    "up_block_types": ("CrossAttnUpBlock2D",) * 3,
    "use_linear_projection": False,
}


def test_attention_may_be_at_every_level():
    unet = make_unet(**ATTENTION_EVERYWHERE)
    net = ReferenceNet.from_unet(unet)
    latents = torch.randn(1, 4, 8, 8, generator=seeded(0))
    features, expected = net(latents, torch.zeros(1, 1, 8, 8)), plain_features(unet, latents)
    assert features[net.layers[-1]].shape == (1, 64, 8)
    for layer, value in features.items():
        torch.testing.assert_close(value, expected[layer], msg=layer)


def test_features_are_of_every_layer_but_the_first_in_order(unet):
    net = ReferenceNet.from_unet(unet)
    features = net(torch.zeros(1, 4, 8, 8), torch.zeros(1, 1, 8, 8))
    layers = unet_layout(unet)
    assert list(features) == [layer.self_attention for layer in layers[1:]] == list(net.layers)
    sides = {16: 4, 24: 2}  # width of a level -> its side for an 8 × 8 latent
    assert [tuple(value.shape) for value in features.values()] == [
        (1, sides[layer.dim] ** 2, layer.dim) for layer in layers[1:]
    ]


def test_mask_channel_starts_at_zero_and_is_read(unet):
    net = ReferenceNet.from_unet(unet)
    latents, mask = torch.randn(1, 4, 8, 8, generator=seeded(0)), torch.ones(1, 1, 8, 8)
    layer = net.layers[0]
    assert torch.equal(net(latents, mask)[layer], net(latents, mask * 0)[layer])
    nn.init.ones_(net.unet.conv_in.weight.data[:, -1])
    assert not torch.equal(net(latents, mask)[layer], net(latents, mask * 0)[layer])


@pytest.mark.parametrize("changes", [{}, ATTENTION_EVERYWHERE])
def test_every_parameter_can_be_trained(changes):
    net = ReferenceNet.from_unet(make_unet(**changes))
    features = net(torch.randn(1, 4, 8, 8, generator=seeded(0)), torch.ones(1, 1, 8, 8))
    weights = (torch.randn(value.shape, generator=seeded(1)) for value in features.values())
    torch.stack(
        [(value * weight).sum() for value, weight in zip(features.values(), weights, strict=True)]
    ).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_gradient_checkpointing_changes_nothing(unet):
    def gradients(checkpointing: bool) -> list[torch.Tensor]:
        net = ReferenceNet.from_unet(unet).train()
        if checkpointing:
            net.unet.enable_gradient_checkpointing()
        features = net(torch.randn(1, 4, 8, 8, generator=seeded(0)), torch.ones(1, 1, 8, 8))
        torch.stack([value.square().mean() for value in features.values()]).sum().backward()
        return [parameter.grad for parameter in net.parameters() if parameter.grad is not None]

    for with_it, without in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(with_it, without)


def test_sdxl_counts():
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SDXL_UNET)
    net = ReferenceNet.from_unet(unet)
    mask_channel = 320 * 3 * 3
    assert count(unet) == 2_567_463_684
    own = net.unet.state_dict().keys()
    removed = {name: value.numel() for name, value in unet.state_dict().items() if name not in own}
    cross_attention = sum(
        number
        for name, number in removed.items()
        if "transformer_blocks" in name and name.rsplit("transformer_blocks")[1].split(".")[2] in ("attn2", "norm2")
    )
    assert count(unet) - cross_attention == 2_021_626_884
    # What follows the last features and the size embedding are gone as well.
    assert count(net) == count(unet) - sum(removed.values()) + mask_channel
    assert count(net) <= 2_021_626_884 + mask_channel
    assert len(net.layers) == 69


def test_inpainting_unet_gives_a_net_for_latents():
    unet = make_unet(in_channels=9)
    net = ReferenceNet.from_unet(unet)
    assert net.unet.conv_in.weight.shape[1] == 5
    assert torch.equal(net.unet.conv_in.weight[:, :4], unet.conv_in.weight[:, :4])


def test_follows_the_unets_dtype():
    assert ReferenceNet.from_unet(make_unet(torch.bfloat16)).unet.dtype == torch.bfloat16


def test_config_leaves_out_what_training_tools_add(unet):
    tagged = make_unet()
    tagged.register_to_config(decay=0.99)
    assert config_of_unet(tagged).keys() == config_of_unet(unet).keys() >= UNET.keys()


def test_wrapped_weights_are_named():
    wrapped = make_unet()
    attention = wrapped.get_submodule("down_blocks.1.attentions.0.transformer_blocks.0.attn1")
    attention.to_q = nn.Sequential(nn.Linear(16, 16))
    with pytest.raises(ValueError, match="unet lacks .*attn1.to_q.*LoRA"):
        ReferenceNet.from_unet(wrapped)


@pytest.mark.parametrize(
    ("latents", "mask", "message"),
    [
        ((1, 5, 8, 8), (1, 1, 8, 8), "latents must be"),
        ((4, 8, 8), (1, 1, 8, 8), "latents must be"),
        ((1, 4, 8, 8), (1, 1, 8, 7), "mask must be"),
        ((2, 4, 8, 8), (1, 1, 8, 8), "mask must be"),
    ],
)
def test_shapes_are_checked(unet, latents, mask, message):
    net = ReferenceNet.from_unet(unet)
    with pytest.raises(ValueError, match=message):
        net(torch.zeros(latents), torch.zeros(mask))
