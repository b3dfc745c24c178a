"""Sizes of an adapter, as values. Presets differ in numbers only; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, get_args

MapProjections = Literal["shared", "separate"]
"""Whether a router's coarse and refined maps come from one pair of linear layers, or from one each (D5)."""

RoutingFeatures = Literal["decoupled", "coupled"]
"""Whether the routing feature comes from a QFormer of its own, or from the subject's tokens (D16)."""


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Everything about a `SubjectAdapter` that does not follow from the U-Net it is made for.

    Raises:
        ValueError: a size is not a positive integer, the heads do not divide the width, or a choice is none of its own.
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
    map_projections: MapProjections = "separate"
    """D5. `shared`: one pair of linear layers makes the coarse and the refined map, and the refined map's loss trains
    it. `separate`: a pair for each; the coarse one then needs a loss of its own. Files that say nothing are `separate`.
    """
    routing_features: RoutingFeatures = "decoupled"
    """D16. `decoupled`, the paper's: `R_i` comes from the routing QFormer. `coupled`, a baseline: from the mean of
    `E_i`, as the identity router of UniPortrait (arXiv 2408.05939) reads its identity tokens."""
    max_subjects: int | None = None
    """The most subjects that it was trained with in one picture; None where nobody knows."""
    familiarity_components: int | None = None
    """k: principal directions of the features of the references that it was trained on; None where it keeps none."""

    def __post_init__(self) -> None:
        for name, kinds in _CHOICES.items():
            if getattr(self, name) not in kinds:
                allowed = ", ".join(map(repr, kinds))
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _CHOICES or (value is None and field.default is None):
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{field.name} must be a positive integer, got {value!r}")
        if self.router_dim % self.router_heads:
            raise ValueError(
                f"router_heads must divide router_dim, got {self.router_heads} heads, width {self.router_dim}"
            )


_CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"map_projections": get_args(MapProjections), "routing_features": get_args(RoutingFeatures)}
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
            map_projections="shared",
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
            map_projections="shared",
        ),
    }
)
"""The two sizes we train: the embedded `mini` and the paper's `sdxl`."""

PAPERS_CALL: Mapping[str, int | float] = MappingProxyType({"num_inference_steps": 25, "guidance_scale": 7.5})
"""What the paper draws with (4.1): what an adapter for SDXL says of a call that says nothing."""


def check_default_call(values: Any) -> None:
    """Refuse an adapter's own values of a call that are not numbers.

    Raises:
        ValueError: the message shows what they look like.
    """
    if values is not None and not (
        isinstance(values, Mapping)
        and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values.values())
    ):
        raise ValueError(
            f"default_call must name arguments of a pipeline's call and their numbers, such as {dict(PAPERS_CALL)}, "
            f"got {values!r}"
        )
