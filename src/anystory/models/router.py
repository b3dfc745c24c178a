"""The router: who owns each pixel (3.3). Pure functions first, then the module of one layer, then its loss.

Shapes: B samples, N subjects, S = N + 1 slots with the background last, L = h · w pixels of a layer, d its
width, d_r routing width, d_k router width, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anystory.models.casting import working_dtype
from anystory.models.configs import MapProjections

Size = tuple[int, int]
"""Height and width of a map."""

# The logits of a fresh router are about this large, so its first maps are balanced between the slots.
_INITIAL_LOGIT = 0.1

# Where the resized probability of a slot is zero its logarithm is cut here, far below any that could win.
_SMALLEST_PROBABILITY = 1e-12


@dataclass(frozen=True, kw_only=True, eq=False)
class RoutingMaps:
    """What one cross-attention layer decided."""

    coarse: Tensor
    """(B, S, h, w) probabilities of the coarse map."""
    refined: Tensor
    """(B, S, h, w) probabilities of the refined map `M`."""
    gate: Tensor
    """(B, S, h, w) one-hot: σ(M), or what overrode it."""


def map_logits(slots: Tensor, pixels: Tensor) -> Tensor:
    """Inner product of projected slots and pixels, scaled by 1/√d_k (D3).

    Args:
        slots: (B, S, d_k).
        pixels: (B, L, d_k).

    Returns:
        (B, S, L) in float32.
    """
    return torch.matmul(slots, pixels.transpose(1, 2)).float() * slots.shape[-1] ** -0.5


def mask_absent(logits: Tensor, present: Tensor) -> Tensor:
    """−∞ for slots that are padding. logits (B, S, …), present (B, S) bool."""
    return logits.masked_fill(~present.view(*present.shape, *(1,) * (logits.ndim - 2)), float("-inf"))


def owner_mask(logits: Tensor) -> Tensor:
    """Which pixels each slot may query: those it wins, or all if it wins none (D4). (B, S, L) -> bool."""
    won = one_hot(logits)
    return won | ~won.any(dim=-1, keepdim=True)


def one_hot(logits: Tensor) -> Tensor:
    """The winning slot of every pixel, (B, S, …) -> bool (B, S, …). Ties go to the first slot."""
    slots = torch.arange(logits.shape[1], device=logits.device).view(1, -1, *(1,) * (logits.ndim - 2))
    return logits.argmax(dim=1, keepdim=True) == slots


def gumbel_noise(
    shape: torch.Size | tuple[int, ...], generator: torch.Generator | None, device: torch.device
) -> Tensor:
    """Standard Gumbel noise in float32, drawn where the generator lives."""
    source = generator.device if generator is not None else device
    exponential = torch.empty(shape, device=source).exponential_(generator=generator)
    # `exponential_` may return 0 in float32, whose logarithm would be an infinite noise.
    return -exponential.clamp_min(torch.finfo(torch.float32).tiny).log().to(device)


def sigma(logits: Tensor, temperature: float | None = None, noise: Tensor | None = None) -> Tensor:
    """σ: every pixel belongs to exactly one slot (D6).

    Without a temperature this is the one-hot argmax. With one it is the hard Gumbel-softmax: the value is
    one-hot, exactly 0 or 1, the gradient that of the softmax at the given temperature (straight-through).

    Args:
        logits: (B, S, …), −∞ for slots that cannot win.
        temperature: None at inference; in training the softmax temperature, greater than 0.
        noise: Gumbel noise of the shape of `logits`; required with a temperature.

    Returns:
        float32 of the shape of `logits`.
    """
    if temperature is None:
        return one_hot(logits).float()
    assert noise is not None
    noisy = (logits + noise) / temperature
    soft = noisy.softmax(dim=1)
    # The bracket is exactly zero, so no rounding leaks another slot's features into a pixel.
    return one_hot(noisy).float() + (soft - soft.detach())


def resize(masks: Tensor, size: Size) -> Tensor:
    """Bilinear, antialiased resize of (B, S, H, W) in float32."""
    if masks.shape[-2:] == size:
        return masks
    return F.interpolate(masks, size=size, mode="bilinear", antialias=True, align_corners=False)


def resized_logits(logits: Tensor, present: Tensor, size: Size) -> Tensor:
    """A map at another size, for σ to decide there (D7): it is the probabilities that are resized.

    Args:
        logits: (B, S, h, w).
        present: (B, S) bool.
        size: of the result.

    Returns:
        (B, S, *size), −∞ for absent slots.
    """
    probabilities = resize(logits.softmax(dim=1), size)
    return mask_absent(probabilities.clamp_min(_SMALLEST_PROBABILITY).log(), present)


class Router(nn.Module):
    """Coarse map, masked cross-attention, refined map of one cross-attention layer.

    Args:
        dim: d, width of the layer's hidden states.
        routing_dim: d_r.
        router_dim: d_k.
        heads: heads of the masked cross-attention; they divide d_k.
        map_projections: D5. "shared": `map_slot` and `map_pixel` make both maps. "separate": each map has a pair of its
            own, and the coarse one needs a loss of its own, because the argmax that masks with it passes no gradient.
    """

    def __init__(
        self, dim: int, routing_dim: int, router_dim: int, heads: int, map_projections: MapProjections = "separate"
    ) -> None:
        super().__init__()
        self.heads = heads
        self.map_projections: MapProjections = map_projections
        # A bias on the slots' side adds the same to each slot and vanishes in the softmax; on the pixels' side it is a
        # prior of the slot.
        if map_projections == "shared":
            self.map_slot = nn.Linear(routing_dim, router_dim, bias=False)
            self.map_pixel = nn.Linear(dim, router_dim)
        else:
            self.coarse_slot = nn.Linear(routing_dim, router_dim, bias=False)
            self.coarse_pixel = nn.Linear(dim, router_dim)
        self.to_q = nn.Linear(routing_dim, router_dim)
        self.to_k = nn.Linear(dim, router_dim, bias=False)
        self.to_v = nn.Linear(dim, router_dim, bias=False)
        self.to_out = nn.Linear(router_dim, routing_dim)
        self.norm = nn.LayerNorm(routing_dim)
        if map_projections == "separate":
            self.refined_slot = nn.Linear(routing_dim, router_dim, bias=False)
            self.refined_pixel = nn.Linear(dim, router_dim)
        self.reset_parameters()

    @property
    def coarse_pair(self) -> tuple[nn.Linear, nn.Linear]:
        """Projections of slots and of pixels whose inner product is the coarse map."""
        if self.map_projections == "shared":
            return self.map_slot, self.map_pixel
        return self.coarse_slot, self.coarse_pixel

    @property
    def refined_pair(self) -> tuple[nn.Linear, nn.Linear]:
        """The same of the refined map."""
        if self.map_projections == "shared":
            return self.map_slot, self.map_pixel
        return self.refined_slot, self.refined_pixel

    def reset_parameters(self) -> None:
        """Small, balanced first maps: unit-variance projections, the slots' side scaled down."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        with torch.no_grad():
            for module in {self.coarse_pair[0], self.refined_pair[0], self.to_out}:
                module.weight.mul_(_INITIAL_LOGIT)

    def forward(self, routing: Tensor, hidden_states: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """The maps' logits before the softmax over slots.

        Args:
            routing: (B, S, d_r), `R`.
            hidden_states: (B, L, d), `Z`: what enters the cross-attention.
            present: (B, S) bool.

        Returns:
            coarse and refined logits, both (B, S, L) float32, −∞ for absent slots.
        """
        dtype = working_dtype(self.to_q)
        routing, hidden_states = routing.to(dtype), hidden_states.to(dtype)
        (coarse_slot, coarse_pixel), (refined_slot, refined_pixel) = self.coarse_pair, self.refined_pair
        pixels = coarse_pixel(hidden_states)
        coarse = mask_absent(map_logits(coarse_slot(routing), pixels), present)
        refined_routing = self.refine(routing, hidden_states, owner_mask(coarse.detach()))
        if refined_pixel is not coarse_pixel:
            pixels = refined_pixel(hidden_states)
        return coarse, mask_absent(map_logits(refined_slot(refined_routing), pixels), present)

    def refine(self, routing: Tensor, hidden_states: Tensor, area: Tensor) -> Tensor:
        """Masked cross-attention: `R` queries `Z` inside each slot's area, then residual and layer norm (D4).

        Args:
            routing: (B, S, d_r).
            hidden_states: (B, L, d).
            area: (B, S, L) bool, no row empty.

        Returns:
            (B, S, d_r).
        """
        query, key, value = (
            projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projected in (self.to_q(routing), self.to_k(hidden_states), self.to_v(hidden_states))
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=area[:, None])
        return self.norm(routing + self.to_out(attended.transpose(1, 2).flatten(2)))


def routing_loss(
    maps: Mapping[str, RoutingMaps],
    gt_masks: Tensor,
    present: Tensor,
    weight: float = 0.1,
    coarse_weight: float = 0.0,
    include_background: bool = False,
) -> Tensor:
    """L_route = λ · 1/N · Σ_i ‖M_i − M_i^gt‖² (3.4), with means where the paper's norm is a sum (D5b).

    The squared error is a mean over the pixels of a layer, and the loss a mean over layers and samples: a small layer
    counts as much as a large one. λ is what maps cost that are wrong at every pixel (error 1), next to a diffusion loss
    that is a mean over latent values. A sum over pixels would weigh a layer of h · w pixels h · w times as much.

    Args:
        maps: {cross-attention layer: maps}, recorded with their graph.
        gt_masks: (B, N, H, W) instance masks in [0, 1]; area-downsampled to each layer's size.
        present: (B, N) bool, or (B, N + 1) as in `EncodedSubjects.present`.
        weight: λ, of the mean over pixels and layers.
        coarse_weight: weight of the coarse maps' loss relative to the refined ones' (D5); 0 leaves them out, which
            is for routers whose maps share their projections.
        include_background: the sum is over N + 1 slots (D14).

    Returns:
        A scalar; zero where no sample has a subject and the background does not count.

    Raises:
        ValueError: no maps, or a shape is not as above.
    """
    if not maps:
        raise ValueError("maps is empty: give the SubjectConditioning a RecordedMaps and run the U-Net first")
    if gt_masks.ndim != 4:
        raise ValueError(f"gt_masks must be (B, N, H, W), got {tuple(gt_masks.shape)}")
    batch, subjects = gt_masks.shape[:2]
    if present.shape not in {(batch, subjects), (batch, subjects + 1)}:
        raise ValueError(f"present must be ({batch}, {subjects}) like gt_masks, got {tuple(present.shape)}")
    counted = F.pad(present[:, :subjects], (0, 1), value=include_background).float()
    per_slot = counted / counted.sum(dim=1, keepdim=True).clamp_min(1)
    per_slot = per_slot / (counted.sum(dim=1) > 0).sum().clamp_min(1)
    targets = F.pad(gt_masks.float() * present[:, :subjects, None, None], (0, 0, 0, 0, 0, 1))
    targets[:, -1] = 1 - targets[:, :-1].sum(dim=1).clamp(max=1)

    total = gt_masks.new_zeros((), dtype=torch.float32)
    sized: dict[torch.Size, Tensor] = {}
    for layer, layer_maps in maps.items():
        size = layer_maps.refined.shape[-2:]
        if layer_maps.refined.shape[:2] != targets.shape[:2]:
            raise ValueError(
                f"gt_masks has (B, N) = {(batch, subjects)}, but the maps of {layer} are for "
                f"{tuple(layer_maps.refined.shape[:2])} samples and slots"
            )
        if size not in sized:
            sized[size] = F.interpolate(targets, size=size, mode="area")
        total = total + _weighted_error(layer_maps.refined, sized[size], per_slot)
        if coarse_weight:
            total = total + coarse_weight * _weighted_error(layer_maps.coarse, sized[size], per_slot)
    return weight * total / len(maps)


def _weighted_error(maps: Tensor, targets: Tensor, per_slot: Tensor) -> Tensor:
    return ((maps - targets).square().mean(dim=(2, 3)) * per_slot).sum()
