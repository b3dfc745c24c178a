"""SDXL's layout at a size whose steps take milliseconds."""

from __future__ import annotations

from anystory.evaluation.bench.networks import Sizes
from anystory.models import AdapterConfig

TINY = Sizes(
    name="tiny",
    channels=(32, 64, 96),
    heads=(1, 2, 3),
    depths=(1, 1, 1),
    text_tokens=7,
    pooled_dim=32,
    adapter=AdapterConfig(
        clip_dim=32,
        clip_tokens=5,
        subject_tokens=3,
        token_dim=40,
        qformer_depth=1,
        qformer_dim=32,
        qformer_heads=2,
        qformer_head_dim=16,
        routing_dim=24,
        router_dim=16,
        router_heads=2,
        reference_size=16,
    ),
    latent=16,
    vae_channels=(32, 32),
    clip_layers=2,
    clip_heads=2,
    clip_image=28,
    text=((32, 1, 2), (32, 1, 2)),
)
