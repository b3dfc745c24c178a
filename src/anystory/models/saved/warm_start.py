"""An adapter from public weights: subject QFormer and Ŵ from IP-Adapter-Plus, ReferenceNet and W̃ from the base U-Net.

IP-Adapter-Plus's Resampler and our subject QFormer are the same network (diffusers' `IPAdapterPlusImageProjection`),
and its attention term is our CLIP term, so with as many tokens as it has queries (16) a warm-started adapter computes
exactly what IP-Adapter-Plus computes where a subject owns every pixel. The routers and the routing QFormer are fresh:
until they are trained, subjects need regions.

More tokens are copies of those queries. In the U-Net's attention copies change nothing: a softmax over every token r
times is the softmax over each once. Inside the QFormer they do change something: its queries attend to the image's
tokens *and* to each other, and there r copies weigh r times as much against the image. So more tokens are near
IP-Adapter-Plus, not equal to it. All but the first copy get a little noise, else training could never tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from anystory.models.adapter import SubjectAdapter
from anystory.models.configs import PAPERS_CALL, PRESETS, AdapterConfig
from anystory.models.layout import describe_layout, unet_layout
from anystory.models.saved.ip_adapter_plus import EXPECTED, IPAdapterPlus, attention_keys, resampler_weights
from anystory.models.saved.key_report import CheckpointKeyError, compare_keys, shapes_of

__all__ = ["COPY_NOISE", "extend_queries", "warm_start", "warm_start_config"]

COPY_NOISE = 0.01
"""Standard deviation of the noise on copied queries, relative to that of the queries."""


def warm_start_config(ip_adapter: IPAdapterPlus, tokens: int | None = None, **changes: Any) -> AdapterConfig:
    """The preset `sdxl` with the sizes that the file has.

    Args:
        ip_adapter: the public weights.
        tokens: m, a multiple of their queries; by default as many (16), which is exact. The paper has 64.
        **changes: other fields of `AdapterConfig`.

    Raises:
        ValueError: a size that cannot be.
    """
    sizes = ip_adapter.sizes()
    if tokens is not None:
        if tokens < 1 or tokens % ip_adapter.queries:
            raise ValueError(
                f"tokens must be a multiple of the IP-Adapter's {ip_adapter.queries} queries, got {tokens}:"
                " each of them is copied as often"
            )
        sizes["subject_tokens"] = tokens
    return replace(PRESETS["sdxl"], **(sizes | changes))


@torch.no_grad()
def warm_start(
    unet: UNet2DConditionModel,
    ip_adapter: IPAdapterPlus,
    config: AdapterConfig,
    generator: torch.Generator | None = None,
) -> SubjectAdapter:
    """An adapter for `unet` that starts from public weights, on its device and in its dtype. Its calls are the paper's.

    Args:
        unet: the base, of SDXL's kind.
        ip_adapter: IP-Adapter-Plus made for such a base.
        config: as `warm_start_config` gives it.
        generator: source of the noise on copied queries, on the CPU.

    Raises:
        ValueError: the two do not belong together; every key that does not fit is named.
    """
    check_belongs(unet, ip_adapter)
    with _default_dtype(unet.dtype):
        adapter = SubjectAdapter.from_unet(unet, config, default_call=PAPERS_CALL)
    weights = resampler_weights(ip_adapter.image_proj)
    weights["latents"] = extend_queries(weights["latents"], config.subject_tokens, generator)
    _load(adapter.subject_qformer, weights, "image_proj")
    for layer, number in attention_keys(unet).items():
        own = {f"{name}.weight": ip_adapter.ip_adapter[f"{number}.{name}_ip.weight"] for name in ("to_k", "to_v")}
        _load(adapter._projection(layer), own, f"ip_adapter.{number}")
    return adapter


def check_belongs(unet: UNet2DConditionModel, ip_adapter: IPAdapterPlus) -> None:
    """Raises ValueError if the IP-Adapter's keys and values are not those of this U-Net's cross-attentions."""
    layers = {layer.cross_attention: layer for layer in unet_layout(unet)}
    numbers = attention_keys(unet)
    width = ip_adapter.sizes()["token_dim"]
    expected = {
        f"{numbers[name]}.{part}.weight": (layer.inner_dim, layer.context_dim)
        for name, layer in layers.items()
        for part in ("to_k_ip", "to_v_ip")
    }
    report = compare_keys(shapes_of(ip_adapter.ip_adapter), expected)
    if report:
        raise CheckpointKeyError(
            f"the IP-Adapter does not fit this U-Net: it has {len(ip_adapter.ip_adapter) // 2} layers of text width "
            f"{width}, the U-Net has {describe_layout(list(layers.values()))}; expected {EXPECTED}",
            report,
        )


def extend_queries(latents: Tensor, tokens: int, generator: torch.Generator | None = None) -> Tensor:
    """The n queries and copies of them, (1, n, h) -> (1, tokens, h); the first n are as they were.

    Args:
        latents: (1, n, h).
        tokens: a multiple of n.
        generator: source of the copies' noise.
    """
    queries = latents.shape[1]
    assert tokens % queries == 0
    extended = latents.float().repeat(1, tokens // queries, 1)
    noise = torch.randn(extended.shape, generator=generator) * (COPY_NOISE * latents.float().std())
    noise[:, :queries] = 0
    return (extended + noise).to(latents.dtype)


def _load(module: torch.nn.Module, weights: dict[str, Tensor], part: str) -> None:
    """Copies weights into a module of ours; names every key that does not fit."""
    report = compare_keys(shapes_of(weights), shapes_of(module.state_dict()))
    if report:
        raise CheckpointKeyError(f"the IP-Adapter's {part} is not as expected, under diffusers' names", report)
    module.load_state_dict(weights)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Modules are made in this dtype: in float32 first, an SDXL adapter would take 12 GB more than it needs."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
