"""The networks of a FLUX.1 picture with random weights or none: FLUX.1-dev as it is, and scaled down."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5Config,
    T5EncoderModel,
)

from anystory.models.flux.low_rank import Shape
from anystory.models.flux_adapter import FluxSubjectAdapter

TOKEN = 16
"""Pixels along each side of a token: eight a latent, two latents."""


@dataclass(frozen=True, kw_only=True)
class FluxSizes:
    """Everything that the cost of a picture depends on."""

    name: str
    heads: int
    axes: tuple[int, int, int]
    """Of the rotary embedding; their sum is the width of a head."""
    doubles: int
    singles: int
    """Blocks of either kind."""
    text_tokens: int
    rank: int
    """Of the low-rank terms of both streams. The published checkpoint's is unknown; 128 is that of its other terms."""
    map_rank: int
    reference_size: int
    """Side of a reference, pixels."""
    clip: tuple[int, int, int]
    """(width, layers, heads) of the first text encoder; its width is that of the pooled prompt."""
    t5: tuple[int, int, int, int]
    """(width, layers, heads, width between) of the second."""
    siglip: tuple[int, int, int, int]
    """(width, layers, heads, width between) of the references' encoder."""
    siglip_image: int
    """Side of its input, pixels: 14 a token."""
    vae_channels: tuple[int, ...] = (128, 256, 512, 512)
    latent_channels: int = 16

    @property
    def head_dim(self) -> int:
        """e."""
        return sum(self.axes)

    @property
    def width(self) -> int:
        """D."""
        return self.heads * self.head_dim

    @property
    def blocks(self) -> list[str]:
        """Their names in the transformer."""
        doubles = [f"transformer_blocks.{i}" for i in range(self.doubles)]
        return doubles + [f"single_transformer_blocks.{i}" for i in range(self.singles)]

    def tokens(self, side: int) -> int:
        """Of a square picture or reference of so many pixels a side."""
        return (side // TOKEN) ** 2


FLUX = FluxSizes(
    name="FLUX.1-dev",
    heads=24,
    axes=(16, 56, 56),
    doubles=19,
    singles=38,
    text_tokens=512,
    rank=128,
    map_rank=128,
    reference_size=512,
    clip=(768, 12, 12),
    t5=(4096, 24, 64, 10240),
    siglip=(1152, 27, 16, 4304),
    siglip_image=384,
)
"""With SigLIP so400m/14-384, as FLUX.1-Redux uses it."""

FLUX_SMALL = FluxSizes(
    name="FLUX.1, width 128",
    heads=2,
    axes=(8, 28, 28),
    doubles=19,
    singles=38,
    text_tokens=512,
    rank=8,
    map_rank=8,
    reference_size=512,
    clip=(64, 2, 2),
    t5=(128, 2, 2, 256),
    siglip=(96, 2, 2, 192),
    siglip_image=384,
    vae_channels=(32, 32, 64, 64),
)
"""FLUX.1's blocks and tokens at widths that a CPU steps through in seconds."""

FLUX_MODELS = {"flux": FLUX, "flux-small": FLUX_SMALL}
"""By the names that the command line uses."""


@dataclass(frozen=True, kw_only=True)
class FluxNetworks:
    """The networks of one model on one device, built when first asked for."""

    sizes: FluxSizes
    device: torch.device
    dtype: torch.dtype = torch.bfloat16

    @cached_property
    def transformer(self) -> FluxTransformer2DModel:
        sizes = self.sizes
        return self._ready(
            lambda: FluxTransformer2DModel(
                in_channels=4 * sizes.latent_channels,
                num_layers=sizes.doubles,
                num_single_layers=sizes.singles,
                attention_head_dim=sizes.head_dim,
                num_attention_heads=sizes.heads,
                joint_attention_dim=sizes.t5[0],
                pooled_projection_dim=sizes.clip[0],
                guidance_embeds=True,
                axes_dims_rope=sizes.axes,
            )
        )

    @cached_property
    def adapter(self) -> FluxSubjectAdapter:
        sizes = self.sizes
        width = sizes.width
        maps = {f"{block}.{side}": (width, width, sizes.map_rank, True) for block in sizes.blocks for side in _SIDES}
        return self._ready(
            lambda: FluxSubjectAdapter(
                reference_shapes=term_shapes_of(sizes, "picture"),
                routing_shapes=term_shapes_of(sizes, "text"),
                map_shapes=maps,
                redux_dim=sizes.siglip[0],
                text_dim=sizes.t5[0],
                embedder_rank=sizes.map_rank,
                reference_size=sizes.reference_size,
            )
        )

    @cached_property
    def vae(self) -> AutoencoderKL:
        channels = self.sizes.vae_channels
        config: dict[str, Any] = {
            "block_out_channels": channels,
            "down_block_types": ("DownEncoderBlock2D",) * len(channels),
            "up_block_types": ("UpDecoderBlock2D",) * len(channels),
            "layers_per_block": 2,
            "latent_channels": self.sizes.latent_channels,
            "use_quant_conv": False,
            "use_post_quant_conv": False,
            "shift_factor": 0.1159,
            "scaling_factor": 0.3611,
        }
        return self._ready(lambda: AutoencoderKL(**config))

    @cached_property
    def image_encoder(self) -> SiglipVisionModel:
        width, layers, heads, between = self.sizes.siglip
        config = SiglipVisionConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=between,
            image_size=self.sizes.siglip_image,
            patch_size=14,
        )
        return self._ready(lambda: SiglipVisionModel(config))

    @cached_property
    def text_encoder(self) -> CLIPTextModel:
        width, layers, heads = self.sizes.clip
        config = CLIPTextConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            eos_token_id=2,
        )
        return self._ready(lambda: CLIPTextModel(config))

    @cached_property
    def text_encoder_2(self) -> T5EncoderModel:
        width, layers, heads, between = self.sizes.t5
        config = T5Config(
            vocab_size=32128,
            d_model=width,
            d_kv=width // heads,
            d_ff=between,
            num_layers=layers,
            num_heads=heads,
            feed_forward_proj="gated-gelu",
        )
        return self._ready(lambda: T5EncoderModel(config))

    def _ready(self, build: Any) -> Any:
        with self.device:
            # ModelMixin's own `to` warns at every change of type.
            return nn.Module.to(build(), dtype=self.dtype).requires_grad_(False).eval()


_SIDES = ("query", "key")

_SINGLE = {"norm.linear": (1, 3), "proj_mlp": (1, 4), "proj_out": (5, 1)} | dict.fromkeys(
    ("attn.to_q", "attn.to_k", "attn.to_v"), (1, 1)
)
_DOUBLE = {
    "picture": {"norm1.linear": (1, 6), "ff.net.2": (4, 1)}
    | dict.fromkeys(("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"), (1, 1)),
    "text": {"norm1_context.linear": (1, 6), "ff_context.net.2": (4, 1)}
    | dict.fromkeys(("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"), (1, 1)),
}
"""Layers with a term, and their (in, out) in widths."""


def term_shapes_of(sizes: FluxSizes, stream: str) -> dict[str, Shape]:
    """The layers on which a stream has terms in the published checkpoint: "picture" for references, "text" for routing
    tokens."""
    width, rank = sizes.width, sizes.rank
    first, into = (
        ("x_embedder", 4 * sizes.latent_channels) if stream == "picture" else ("context_embedder", sizes.t5[0])
    )
    shapes: dict[str, Shape] = {first: (into, width, rank, False)}
    for block in sizes.blocks:
        layers = _SINGLE if block.startswith("single") else _DOUBLE[stream]
        shapes |= {f"{block}.{name}": (into * width, out * width, rank, False) for name, (into, out) in layers.items()}
    return shapes
