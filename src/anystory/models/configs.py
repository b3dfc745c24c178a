"""Sizes of an adapter, as values. Presets differ in numbers only; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Everything about a `SubjectAdapter` that does not follow from the U-Net it is made for.

    Raises:
        ValueError: a size is not a positive integer, or the heads do not divide the width.
    """

    clip_dim: int
    """Width of the image encoder's penultimate hidden states."""
    clip_tokens: int
    """Tokens of one encoded image (patches and the class token)."""
    subject_tokens: int
    """m: tokens of `E_i`."""
    token_dim: int
    """Width of `E_i`; the paper uses the text width."""
    qformer_depth: int
    """Layers of the subject QFormer and of the routing QFormer."""
    qformer_dim: int
    """Hidden width of both QFormers."""
    qformer_heads: int
    """Attention heads of both QFormers."""
    qformer_head_dim: int
    """Width of one QFormer head."""
    routing_dim: int
    """d_r: width of the routing feature `R_i` (D12)."""
    router_dim: int
    """d_k: width in which `R` and `Z` meet (D12)."""
    router_heads: int
    """Heads of the router's masked cross-attention; they share `router_dim`."""
    reference_size: int
    """Side of the square reference image in pixels."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{field.name} must be a positive integer, got {value!r}")
        if self.router_dim % self.router_heads:
            raise ValueError(
                f"router_heads must divide router_dim, got {self.router_heads} heads, width {self.router_dim}"
            )


PRESETS: Mapping[str, AdapterConfig] = MappingProxyType(
    {
        "mini": AdapterConfig(
            clip_dim=192,
            clip_tokens=65,
            subject_tokens=16,
            token_dim=192,
            qformer_depth=4,
            qformer_dim=192,
            qformer_heads=3,
            qformer_head_dim=64,
            routing_dim=192,
            router_dim=64,
            router_heads=2,
            reference_size=64,
        ),
        # CLIP ViT-H/14 and the QFormer of IP-Adapter-Plus for SDXL.
        "sdxl": AdapterConfig(
            clip_dim=1280,
            clip_tokens=257,
            subject_tokens=64,
            token_dim=2048,
            qformer_depth=4,
            qformer_dim=1280,
            qformer_heads=20,
            qformer_head_dim=64,
            routing_dim=1280,
            router_dim=320,
            router_heads=5,
            reference_size=512,
        ),
    }
)
"""The two sizes we train: the embedded `mini` and the paper's `sdxl`."""
