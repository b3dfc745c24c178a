"""ReferenceNet: a U-Net without cross-attention that gives a reference's appearance, layer by layer (3.2).

Shapes: B references, c latent channels, h × w latent size, T tokens of a layer, d its width.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from anystory.models.layout import transformer_blocks

# What a base may be told and a reference is not: text, size, class and guidance embeddings, boxes.
_NO_CONDITIONS = {
    "center_input_sample": False,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "addition_embed_type": None,
    "class_embed_type": None,
    "num_class_embeds": None,
    "time_cond_proj_dim": None,
    "attention_type": "default",
    "cross_attention_norm": None,
}


class _Features:
    """What a call's layers hand out, by layer. Not a dictionary itself: FSDP2 hands modules copies of containers."""

    def __init__(self) -> None:
        self.found: dict[str, Tensor] = {}

    def record(self, layer: str, states: Tensor) -> None:
        """Keep what enters a layer, unless it has been here.

        With gradient checkpointing blocks run twice; keeping the second's would keep all that leads to it.
        """
        self.found.setdefault(layer, states)


class _RecordingAttnProcessor(AttnProcessor2_0):
    """Self-attention that also hands out the normalised hidden states that enter it (D1)."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.layer = layer

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        reference_features: _Features | None = None,
    ) -> Tensor:
        if reference_features is not None:
            reference_features.record(self.layer, hidden_states)
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)


class _LastNorm(nn.Module):
    """What is left of the last transformer block: nothing reads what follows its first norm."""

    def __init__(self, norm1: nn.Module, layer: str) -> None:
        super().__init__()
        self.norm1 = norm1
        self.layer = layer

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        timestep: Tensor | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        class_labels: Tensor | None = None,
        added_cond_kwargs: dict[str, Tensor] | None = None,
    ) -> Tensor:
        # The signature is that of BasicTransformerBlock, which diffusers calls by position.
        assert cross_attention_kwargs is not None
        cross_attention_kwargs["reference_features"].record(self.layer, self.norm1(hidden_states))
        return hidden_states


class ReferenceNet(nn.Module):
    """A copy of the U-Net without cross-attention; runs at t = 0 without any text or size condition (D2).

    Built from diffusers' own U-Net, whose blocks skip a cross-attention that is None. Whatever follows the
    last recorded hidden states cannot change a result nor get a gradient, and is left out.

    Args:
        unet_config: configuration of the base `UNet2DConditionModel`.
        pruned: False keeps what follows the last recorded hidden states: more to compute for the same features.
    """

    def __init__(self, unet_config: Mapping[str, Any], pruned: bool = True) -> None:
        super().__init__()
        # An inpainting U-Net reads more channels than a latent has; what a U-Net predicts is always a latent.
        self.latent_channels: int = unet_config.get("out_channels", 4)
        self.unet = UNet2DConditionModel(
            **{
                **unet_config,
                **_NO_CONDITIONS,
                "in_channels": self.latent_channels + 1,
                # The narrowest that diffusers accepts: what reads it is removed at once.
                "cross_attention_dim": 1,
            }
        )
        layers = [f"{name}.attn1" for name, _ in transformer_blocks(self.unet)]
        for name, block in transformer_blocks(self.unet):
            block.attn2 = block.norm2 = None
            block.attn1.set_processor(cast(Any, _RecordingAttnProcessor(f"{name}.attn1")))
        if pruned:
            self._drop_tail()
        self.layers = tuple(layers[1:])
        """Names of the self-attention layers whose features are returned: all but the first."""

    @classmethod
    def from_unet(cls, unet: UNet2DConditionModel, pruned: bool = True) -> ReferenceNet:
        """A ReferenceNet that starts from the U-Net's weights, on its device and in its dtype."""
        with unet.device:
            net = cls(config_of_unet(unet), pruned)
        net.to(unet.dtype)
        net.copy_weights(unet)
        return net

    @torch.no_grad()
    def copy_weights(self, unet: UNet2DConditionModel) -> None:
        """Takes every weight it shares with `unet`; the mask channel of `conv_in` becomes zero (D2).

        Raises:
            ValueError: `unet` lacks weights, because LoRA layers wrap them.
        """
        weights = unet.state_dict()
        missing = self.unet.state_dict().keys() - weights.keys()
        if missing:
            raise ValueError(f"unet lacks {min(missing)} (fuse or unload LoRA layers first)")
        latent_part = weights["conv_in.weight"][:, : self.latent_channels]
        weights["conv_in.weight"] = torch.cat([latent_part, torch.zeros_like(latent_part[:, :1])], dim=1)
        self.unet.load_state_dict({name: weights[name] for name in self.unet.state_dict()})

    def forward(self, latents: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Appearance features of every self-attention layer but the first: `G^l`, l = 2…L.

        Args:
            latents: (B, c, h, w) scaled VAE latents of the segmented references.
            mask: (B, 1, h, w) subject masks in [0, 1] at latent size.

        Returns:
            {self-attention layer: (B, T, d)}, in the order of execution.

        Raises:
            ValueError: a shape is not as above.
        """
        if latents.ndim != 4 or latents.shape[1] != self.latent_channels:
            raise ValueError(f"latents must be (B, {self.latent_channels}, h, w), got {tuple(latents.shape)}")
        if mask.shape != (latents.shape[0], 1, *latents.shape[2:]):
            raise ValueError(f"mask must be (B, 1, h, w) like latents {tuple(latents.shape)}, got {tuple(mask.shape)}")
        features = _Features()
        self.unet(
            torch.cat([latents, mask.to(latents.dtype)], dim=1),
            timestep=0,
            encoder_hidden_states=cast(Tensor, None),
            cross_attention_kwargs={"reference_features": features},
            return_dict=False,
        )
        return {layer: features.found[layer] for layer in self.layers}

    def _drop_tail(self) -> None:
        unet = cast(Any, self.unet)
        name, block = list(transformer_blocks(unet))[-1]
        transformer = unet.get_submodule(name.rpartition(".transformer_blocks")[0])
        transformer.transformer_blocks[-1] = _LastNorm(block.norm1, f"{name}.attn1")
        transformer.proj_out = nn.Identity()
        unet.conv_norm_out = unet.conv_act = None
        unet.conv_out = nn.Identity()
        stage, _, index = name.partition(".attentions")[0].partition(".")
        if stage == "up_blocks":
            unet.up_blocks = unet.up_blocks[: int(index) + 1]
            unet.up_blocks[-1].upsamplers = None


def config_of_unet(unet: UNet2DConditionModel) -> dict[str, Any]:
    """The configuration that rebuilds a U-Net, without entries that training tools add to it."""
    arguments = inspect.signature(UNet2DConditionModel.__init__).parameters
    return {key: value for key, value in unet.config.items() if key in arguments}
