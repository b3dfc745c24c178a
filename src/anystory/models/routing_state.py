"""RoutingState: one U-Net call with subjects. It decides who owns each pixel and keeps that until the call ends.

Shapes: B samples, N subjects, S = N + 1 slots with the background last, h × w a layer's map size, L = h · w its pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from anystory.models.conditioning import LayerCache, SubjectConditioning
from anystory.models.gates import Decision, PixelGroup, group_pixels
from anystory.models.router import Router, RoutingMaps, Size, mask_absent, resized_logits

# U-Nets of the SDXL kind halve twice; one more costs nothing.
_LEVELS = 4


@dataclass(kw_only=True, eq=False)
class LayerState:
    """One layer in one U-Net call.

    Its processor holds it while the U-Net runs: a name to look it up by would be compiled into each block, and one
    compiled block serves all layers of its shape only where they differ in nothing but objects.
    """

    cache: LayerCache
    """What outlives the U-Net call."""
    decided: Decision | None = None
    """By a cross-attention, at its own size."""
    resized: dict[Size, Decision] = field(default_factory=dict)
    """The same at other sizes (D7), where no gradient is asked for."""
    noise: dict[Size, Tensor] = field(default_factory=dict)
    """What the gate drew."""
    maps: RoutingMaps | None = None
    """Of a cross-attention, where maps are recorded."""


class Form(Protocol):
    """A cheaper way to what the attention processors compute; `fast/form.py` is the one."""

    def prepare(self, routing: RoutingState, layer: LayerState, router: Router) -> None:
        """Before the first layer runs."""

    def project_text(self, layer: LayerState, attn: Any, text: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the prompt, both (B, H, T, e)."""
        ...

    def subject_term(
        self, routing: RoutingState, layer: LayerState, processor: Any, attn: Any, hidden_states: Tensor, query: Tensor
    ) -> Tensor:
        """What subjects add to a cross-attention, (rows, H, L, e)."""
        ...

    def self_attention(
        self,
        routing: RoutingState,
        layer: LayerState,
        decision: Decision,
        processor: Any,
        attn: Any,
        hidden_states: Tensor,
    ) -> Tensor | None:
        """Self-attention with references, (rows, L, d); None where no pixel reads one."""
        ...


class RoutingState:
    """What the attention processors ask during one U-Net call.

    Args:
        call: What the U-Net was told.
        latent_size: Height and width of its latents.
        fast: The fast form, where the call takes it.
    """

    def __init__(self, call: SubjectConditioning, latent_size: Size, fast: Form | None = None) -> None:
        self.call = call
        self.fast = fast
        self.slot_scales = call.slot_scales()
        """(B, S) η."""
        self.reference_bias = call.reference_bias()
        """(B, N) γ."""
        self._latent_size = latent_size
        self._layers: dict[str, LayerState] = {}
        self._same_for_all: dict[Size, Decision] = {}
        self._reads: list[list[bool]] | None = None
        if call.record is not None:
            call.record.begin(self._layers)
        if fast is not None:  # no compiled block then sees a mask come into being
            sizes = [latent_size]
            while len(sizes) < _LEVELS:
                sizes.append(_halved(sizes[-1]))
            call.gate.prepare(sizes)
            if not call.gate.needs_router:
                for size in sizes:
                    self._decide_for_all(size)

    def layer(self, name: str) -> LayerState:
        """What this U-Net call keeps of a layer."""
        if name not in self._layers:
            assert self.call.cache is not None
            self._layers[name] = LayerState(cache=self.call.cache.layer(name))
        return self._layers[name]

    def check_batch(self, rows: int) -> None:
        """Raises ValueError where a U-Net batch of `rows` is not B samples (twice with guidance)."""
        batch, guidance = self.call.encoded.batch_size, self.call.guidance
        expected = batch * (2 if guidance else 1)
        if rows != expected:
            raise ValueError(
                f"the U-Net runs on a batch of {rows}, but subject_conditioning needs {expected}: it is for "
                f"{batch} sample(s) {'with' if guidance else 'without'} guidance"
            )

    def map_size(self, pixels: int) -> Size:
        """Height and width of a layer with so many pixels: the latent size, halved with rounding up."""
        height, width = self._latent_size
        while height * width > pixels:
            height, width = _halved((height, width))
        if height * width != pixels:
            raise ValueError(f"a layer of {pixels} pixels is not {self._latent_size} halved a number of times")
        return height, width

    def decide(self, layer: LayerState, pixels: int, logits: tuple[Tensor, Tensor] | None) -> Decision:
        """σ of a cross-attention.

        Args:
            layer: The cross-attention.
            pixels: L.
            logits: Coarse and refined (B, S, L) of its router; None only where the call does not need the router.
        """
        size = self.map_size(pixels)
        maps = None if logits is None else [part.unflatten(-1, size) for part in logits]
        if self.call.gate.needs_router:
            assert maps is not None
            decision = self.call.gate(maps[1], layer.noise)
            # Gradient checkpointing asks a second time: the first answer stays, or it would keep all that leads to it.
            if layer.decided is None:
                layer.decided = decision
        else:
            decision = self._decide_for_all(size)
        if self.call.record is not None and maps is not None:
            coarse, refined = (part.softmax(dim=1) for part in maps)
            recorded = self.call.record.kept(RoutingMaps(coarse=coarse, refined=refined, gate=decision.gate))
            layer.maps = recorded if layer.maps is None else layer.maps  # as above
        return decision

    def decision_after(self, layer: LayerState, pixels: int) -> Decision:
        """σ of a cross-attention for the self-attention that follows it, whatever that one's size (D7).

        Args:
            layer: The preceding cross-attention, which has run.
            pixels: L of the self-attention.
        """
        size = self.map_size(pixels)
        if not self.call.gate.needs_router:
            return self._decide_for_all(size)
        assert layer.decided is not None
        if layer.decided.logits.shape[-2:] == size:
            return layer.decided
        if size in layer.resized:
            return layer.resized[size]
        # Antialiasing smears a region's edge over a neighbour: the gate rules once more at this size.
        logits = resized_logits(layer.decided.logits, self.call.encoded.present, size)
        decision = self.call.gate(logits, layer.noise)
        if not (torch.is_grad_enabled() or torch.compiler.is_compiling()):
            layer.resized[size] = decision
        return decision

    def groups(self, decision: Decision) -> tuple[PixelGroup, ...]:
        """The pixels of each slot. Waits for the map; two layers ask about most maps."""
        if decision.groups is None:
            decision.groups = group_pixels(decision.gate.flatten(2))
        return decision.groups

    @property
    def reads(self) -> list[list[bool]]:
        """Of each sample's subjects, whether its reference scale is above 0."""
        if self._reads is None:
            scales, encoded = self.call.reference_scales, self.call.encoded
            everyone = [[True] * encoded.num_subjects] * encoded.batch_size
            self._reads = everyone if scales is None else (scales > 0).tolist()
        return self._reads

    def _decide_for_all(self, size: Size) -> Decision:
        """Without the router all layers of a size have the same σ."""
        if size not in self._same_for_all:
            present = self.call.encoded.present
            nothing = torch.zeros(*present.shape, *size, device=present.device)
            self._same_for_all[size] = self.call.gate(mask_absent(nothing, present), {})
        return self._same_for_all[size]


def _halved(size: Size) -> Size:
    """As a U-Net's down-samplers do."""
    return (size[0] + 1) // 2, (size[1] + 1) // 2
