"""The networks of a picture, with random weights or none: SDXL as it is, and SDXL scaled down.

Both have the same layout: 70 transformer blocks at two levels (10 and 60), none at the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from anystory.models.adapter import SubjectAdapter
from anystory.models.configs import PRESETS, AdapterConfig

_CLIP_PATCH = 14


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Everything that the cost of a picture depends on. `SDXL` and `SMALL` differ in numbers only."""

    name: str
    channels: tuple[int, int, int]
    """Widths of the U-Net's levels."""
    heads: tuple[int, int, int]
    """Attention heads at each level."""
    depths: tuple[int, int, int]
    """Transformer blocks per attention at each level; the first has no attention."""
    text_tokens: int
    pooled_dim: int
    """Width of the pooled text."""
    adapter: AdapterConfig
    """Its `token_dim` is the text width, too."""
    latent: int
    """Side of the picture's latent."""
    vae_channels: tuple[int, ...]
    clip_layers: int
    clip_heads: int
    clip_image: int
    """Side of the image encoder's input."""
    text: tuple[tuple[int, int, int], ...]
    """(width, layers, heads) of each text encoder; the last one is pooled. Empty: text is not counted."""

    @property
    def unet(self) -> dict[str, Any]:
        """Configuration of the `UNet2DConditionModel`."""
        time_ids = 256
        return {
            "sample_size": self.latent,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "block_out_channels": self.channels,
            "layers_per_block": 2,
            "transformer_layers_per_block": self.depths,
            "attention_head_dim": self.heads,
            "cross_attention_dim": self.adapter.token_dim,
            "norm_num_groups": 32,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": time_ids,
            "projection_class_embeddings_input_dim": self.pooled_dim + 6 * time_ids,
        }

    @property
    def picture(self) -> int:
        """Side of the picture in pixels."""
        return self.latent * 2 ** (len(self.vae_channels) - 1)

    @property
    def reference_latent(self) -> int:
        """Side of a reference's latent."""
        return self.adapter.reference_size // 2 ** (len(self.vae_channels) - 1)


SDXL = Sizes(
    name="SDXL",
    channels=(320, 640, 1280),
    heads=(5, 10, 20),
    depths=(1, 2, 10),
    text_tokens=77,
    pooled_dim=1280,
    adapter=PRESETS["sdxl"],
    latent=128,
    vae_channels=(128, 256, 512, 512),
    clip_layers=32,
    clip_heads=16,
    clip_image=224,
    text=((768, 12, 12), (1280, 32, 20)),
)
"""SDXL at 1024 × 1024 with CLIP ViT-H/14, as the paper uses it."""

SMALL = Sizes(
    name="SDXL, widths ÷ 5, at 512 × 512",
    channels=(64, 128, 256),
    heads=(1, 2, 4),
    depths=(1, 2, 10),
    text_tokens=77,
    pooled_dim=256,
    adapter=AdapterConfig(
        clip_dim=256,
        clip_tokens=257,
        subject_tokens=64,
        token_dim=416,
        qformer_depth=4,
        qformer_dim=256,
        qformer_heads=4,
        qformer_head_dim=64,
        routing_dim=256,
        router_dim=64,
        router_heads=4,
        reference_size=256,
    ),
    latent=64,
    vae_channels=(32, 32, 64, 64),
    clip_layers=8,
    clip_heads=4,
    clip_image=224,
    text=(),
)
"""SDXL's layout at a size that a CPU steps through in seconds; pictures keep twice the references' side."""

MODELS = {"sdxl": SDXL, "small": SMALL}
"""By the names that the command line uses."""


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The networks of one model on one device, built when first asked for."""

    sizes: Sizes
    device: torch.device
    dtype: torch.dtype = torch.float32

    @cached_property
    def unet(self) -> UNet2DConditionModel:
        return self._ready(lambda: UNet2DConditionModel(**self.sizes.unet))

    @cached_property
    def adapter(self) -> SubjectAdapter:
        return SubjectAdapter.from_unet(self.unet, self.sizes.adapter).requires_grad_(False).eval()

    @cached_property
    def vae(self) -> AutoencoderKL:
        channels = self.sizes.vae_channels
        config: dict[str, Any] = {
            "block_out_channels": channels,
            "down_block_types": ("DownEncoderBlock2D",) * len(channels),
            "up_block_types": ("UpDecoderBlock2D",) * len(channels),
            "layers_per_block": 2,
        }
        return self._ready(lambda: AutoencoderKL(**config))

    @cached_property
    def image_encoder(self) -> CLIPVisionModelWithProjection:
        width = self.sizes.adapter.clip_dim
        config = CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=self.sizes.clip_layers,
            num_attention_heads=self.sizes.clip_heads,
            image_size=self.sizes.clip_image,
            patch_size=_CLIP_PATCH,
            projection_dim=width,
        )
        return self._ready(lambda: CLIPVisionModelWithProjection(config))

    @cached_property
    def text_encoders(self) -> list[Any]:
        kinds = [CLIPTextModel] * (len(self.sizes.text) - 1) + [CLIPTextModelWithProjection]
        return [
            self._ready(
                lambda kind=kind, width=width, layers=layers, heads=heads: kind(
                    CLIPTextConfig(
                        hidden_size=width,
                        intermediate_size=4 * width,
                        num_hidden_layers=layers,
                        num_attention_heads=heads,
                        projection_dim=width,
                        eos_token_id=2,
                    )
                )
            )
            for kind, (width, layers, heads) in zip(kinds, self.sizes.text, strict=False)
        ]

    def _ready(self, build: Any) -> Any:
        with self.device:
            # ModelMixin's own `to` warns at every change of type.
            return nn.Module.to(build(), dtype=self.dtype).requires_grad_(False).eval()
