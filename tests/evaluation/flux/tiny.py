"""FLUX.1's parts at sizes whose steps take milliseconds."""

from __future__ import annotations

from anystory.evaluation.bench.flux.networks import FluxSizes

TINY_FLUX = FluxSizes(
    name="tiny",
    heads=2,
    axes=(4, 6, 6),
    doubles=1,
    singles=1,
    text_tokens=7,
    rank=3,
    map_rank=4,
    reference_size=64,
    clip=(8, 1, 2),
    t5=(24, 1, 2, 32),
    siglip=(12, 1, 2, 16),
    siglip_image=126,
    vae_channels=(32, 32, 32, 32),
    latent_channels=4,
)
SIDE = 96
"""Of a picture, pixels: 6 × 6 tokens; references have 4 × 4."""
