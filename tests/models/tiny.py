"""Tiny real components for the model tests: a U-Net of the SDXL kind, an adapter for it, inputs for both."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from anystory.models import AdapterConfig, EncodedSubjects, RoutingMaps, SubjectAdapter, SubjectConditioning
from anystory.models.install import begin_routing
from anystory.models.routing_state import RoutingState

# SDXL's layout (no attention at the first level), at a size that runs in milliseconds.
UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (8, 16, 24),
    "layers_per_block": 1,
    "transformer_layers_per_block": (1, 1, 2),
    "attention_head_dim": (1, 2, 3),
    "cross_attention_dim": 20,
    "norm_num_groups": 4,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 6 * 4 + 10,
}

SDXL_UNET: dict[str, Any] = {
    **UNET,
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "norm_num_groups": 32,
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}

CONFIG = AdapterConfig(
    clip_dim=12,
    clip_tokens=5,
    subject_tokens=3,
    token_dim=20,
    qformer_depth=2,
    qformer_dim=16,
    qformer_heads=2,
    qformer_head_dim=8,
    routing_dim=10,
    router_dim=8,
    router_heads=2,
    reference_size=64,
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_unet(dtype: torch.dtype = torch.float32, **changes: Any) -> UNet2DConditionModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(**{**UNET, **changes}).requires_grad_(False)
    return unet.to(dtype=dtype)  # pyright: ignore[reportCallIssue]


def make_adapter(unet: UNet2DConditionModel, config: AdapterConfig = CONFIG) -> SubjectAdapter:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return SubjectAdapter.from_unet(unet, config)


def reference_inputs(batch: int, subjects: int, seed: int = 2) -> dict[str, Tensor]:
    """Arguments of `SubjectAdapter.encode` with every subject present."""
    generator = seeded(seed)
    return {
        "image_hidden": torch.randn(batch, subjects, 5, 12, generator=generator),
        "zero_hidden": torch.randn(1, 5, 12, generator=generator),
        "reference_latents": torch.randn(batch, subjects, 4, 8, 8, generator=generator),
        "reference_masks": torch.rand(batch, subjects, 1, 8, 8, generator=generator),
        "present": torch.ones(batch, subjects, dtype=torch.bool),
    }


def encode(adapter: SubjectAdapter, batch: int, subjects: int, **changes: Tensor) -> EncodedSubjects:
    return adapter.encode(**{**reference_inputs(batch, subjects), **changes})


def run_unet(
    unet: UNet2DConditionModel,
    conditioning: SubjectConditioning | None = None,
    *,
    rows: int = 1,
    size: tuple[int, int] = (8, 8),
    repeat: int = 1,
    text: Tensor | None = None,
) -> Tensor:
    """One U-Net call on a fixed random input of `rows` samples, the whole batch `repeat` times over.

    `text` takes the place of the random prompt.
    """
    generator = seeded(3)
    latents = torch.randn(rows, 4, *size, generator=generator).repeat(repeat, 1, 1, 1)
    words = torch.randn(rows, 6, 20, generator=generator).repeat(repeat, 1, 1)
    text = words if text is None else text
    added = {
        "text_embeds": torch.randn(rows, 10, generator=generator).repeat(repeat, 1),
        "time_ids": torch.randn(rows, 6, generator=generator).repeat(repeat, 1),
    }
    kwargs = None if conditioning is None else {"subject_conditioning": conditioning}
    return unet(latents, 10, encoder_hidden_states=text, added_cond_kwargs=added, cross_attention_kwargs=kwargs).sample


def owned_by(slot: int, batch: int = 1, slots: int = 3, size: tuple[int, int] = (8, 8)) -> Tensor:
    """(B, S, H, W) masks that give every pixel to one slot; `-1` is the background."""
    masks = torch.zeros(batch, slots, *size)
    masks[:, slot] = 1
    return masks


LAYER = "some.attn2"


def ready(encoded: EncodedSubjects, size: tuple[int, int] = (8, 8), **changes: Any) -> RoutingState:
    """A U-Net call that has begun on latents of this size."""
    return begin_routing(SubjectConditioning(encoded=encoded, **changes), size)


def logits(pixels: int, slots: int = 3, batch: int = 1) -> tuple[Tensor, Tensor]:
    """Coarse and refined, the second with a gradient."""
    coarse, refined = 2 * torch.randn(2, batch, slots, pixels, generator=seeded(5))
    return coarse, refined.requires_grad_()


def decide(routing: RoutingState, pixels: int, maps: tuple[Tensor, Tensor] | None, name: str = LAYER) -> Tensor:
    """(B, S, L): σ of a cross-attention."""
    return routing.decide(routing.layer(name), pixels, maps).gate.flatten(2)


def gate_after(routing: RoutingState, pixels: int, name: str = LAYER) -> Tensor:
    """(B, N, L): the same for the self-attention that follows, without the background."""
    return routing.decision_after(routing.layer(name), pixels).gate[:, :-1].flatten(2)


def maps_of(routing: RoutingState) -> dict[str, RoutingMaps]:
    """What a U-Net call has recorded."""
    assert routing.call.record is not None
    return routing.call.record.maps


def relative_error(result: Tensor, expected: Tensor) -> float:
    """The largest difference, over the largest of what was expected."""
    return float((result - expected).abs().max() / expected.abs().max())


def gate_of(owner: Tensor, slots: int) -> Tensor:
    """(B, L) owners -> (B, S, L) one-hot."""
    return (owner[:, None] == torch.arange(slots)[None, :, None]).float()
