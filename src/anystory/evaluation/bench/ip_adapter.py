"""diffusers' IP-Adapter-Plus with one mask per subject: the usual way to several subjects, to compare costs with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import IPAdapterPlusImageProjection, MultiIPAdapterImageProjection

from anystory.evaluation.bench.calls import GUIDED_ROWS, unet_call
from anystory.evaluation.bench.networks import Networks

_TOKENS = 16
"""Image tokens of `ip-adapter-plus_sdxl_vit-h`."""


@contextmanager
def ip_adapter_installed(networks: Networks) -> Iterator[None]:
    """While open, the U-Net carries an IP-Adapter-Plus with random weights; afterwards it is as it was."""
    unet, size = networks.unet, networks.sizes.adapter
    before = dict(unet.attn_processors)
    projection, kind = unet.encoder_hid_proj, unet.config["encoder_hid_dim_type"]
    with networks.device:
        image_projection = IPAdapterPlusImageProjection(
            embed_dims=size.clip_dim,
            output_dims=size.token_dim,
            hidden_dims=size.qformer_dim,
            depth=size.qformer_depth,
            dim_head=size.qformer_head_dim,
            heads=size.qformer_heads,
            num_queries=_TOKENS,
        )
        processors: dict[str, Any] = dict(before)
        for layer in networks.adapter.layers:
            processors[f"{layer.cross_attention}.processor"] = IPAdapterAttnProcessor2_0(
                layer.inner_dim, layer.context_dim, num_tokens=(_TOKENS,)
            ).to(networks.dtype)
    # Processors first: the projection has attention layers of its own, which would be counted among the U-Net's.
    unet.set_attn_processor(processors)
    try:
        unet.encoder_hid_proj = cast(Any, MultiIPAdapterImageProjection([image_projection]).to(networks.dtype))
        unet.register_to_config(encoder_hid_dim_type="ip_image_proj")
        yield
    finally:
        unet.encoder_hid_proj = projection
        unet.set_attn_processor(before)
        unet.register_to_config(encoder_hid_dim_type=kind)


def ip_adapter_call(networks: Networks, subjects: int) -> Callable[[], Any]:
    """A guided step with N image prompts and N masks; call it inside `ip_adapter_installed`."""
    size = networks.sizes.adapter
    images = torch.randn(
        GUIDED_ROWS, subjects, size.clip_tokens, size.clip_dim, device=networks.device, dtype=networks.dtype
    )
    masks = torch.ones(1, subjects, networks.sizes.picture, networks.sizes.picture, device=networks.device)
    return unet_call(networks, added={"image_embeds": [images]}, cross_attention_kwargs={"ip_adapter_masks": [masks]})


def ip_adapter_encode_call(networks: Networks, subjects: int) -> Callable[[], Any]:
    """CLIP on N references and, as diffusers does it, on N zero images for the unconditional half."""
    side = networks.sizes.clip_image
    images = torch.randn(subjects, 3, side, side, device=networks.device, dtype=networks.dtype)
    encode = partial(networks.image_encoder, output_hidden_states=True)
    return lambda: (encode(images), encode(torch.zeros_like(images)))
