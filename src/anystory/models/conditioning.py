"""SubjectConditioning: all that a U-Net is told about the subjects of a call. It is a value, which never changes.

What outlives a U-Net call has two places of its own: the `RecordedMaps` that a caller asks for, and the `StepCache` of
the fast form.

Shapes: B samples, N subjects, S = N + 1 slots with the background last, m subject tokens, T reference tokens, H heads
of width e.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from anystory.models.encoders import EncodedSubjects
from anystory.models.fast.absorbed_router import FoldedSlots
from anystory.models.gates import Argmax, Gate
from anystory.models.guidance import Unconditional, check_unconditional
from anystory.models.router import RoutingMaps

KeysValues = tuple[Tensor, Tensor]


@dataclass(kw_only=True, eq=False)
class LayerCache:
    """What is kept of one attention layer."""

    projected: KeysValues | None = None
    """Keys and values of the subjects' tokens (B, S, m, H · e) or of the references (B, N, T, H · e)."""
    folded: FoldedSlots | None = None
    """The router's projections, folded into the slots."""
    text: tuple[Tensor, int, KeysValues] | None = None
    """A prompt, how often it had been written into, and its keys and values."""


class StepCache:
    """What is kept over the steps of a call.

    Args:
        encoded: The subjects. Keys and values that came with them are where the cache begins.
    """

    def __init__(self, encoded: EncodedSubjects) -> None:
        self.encoded = encoded
        self._layers: dict[str, LayerCache] = {}

    def layer(self, name: str) -> LayerCache:
        """What is kept of one layer."""
        if name not in self._layers:
            self._layers[name] = LayerCache(projected=self.encoded.projected.get(name))
        return self._layers[name]


class HasMaps(Protocol):
    """What a U-Net call keeps of a layer, as far as its maps go."""

    maps: RoutingMaps | None


class RecordedMaps:
    """Holds the maps of the last U-Net call of whatever conditioning it is given to.

    Args:
        keep_graph: True keeps the graph, for the routing loss. False keeps detached maps on the CPU, for looking at.
    """

    def __init__(self, *, keep_graph: bool = False) -> None:
        self.keep_graph = keep_graph
        self._layers: Mapping[str, HasMaps] = {}  # not their RoutingState: in a circle a graph would outlive its step

    def begin(self, layers: Mapping[str, HasMaps]) -> None:
        """A U-Net call begins; it will fill these layers."""
        self._layers = layers

    @property
    def maps(self) -> dict[str, RoutingMaps]:
        """{cross-attention layer: maps}, in the order of execution."""
        return {name: layer.maps for name, layer in self._layers.items() if layer.maps is not None}

    def kept(self, maps: RoutingMaps) -> RoutingMaps:
        """The maps of a layer as they are kept."""
        if self.keep_graph:
            return maps
        return RoutingMaps(
            coarse=maps.coarse.detach().cpu(), refined=maps.refined.detach().cpu(), gate=maps.gate.detach().cpu()
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class SubjectConditioning:
    """The subjects of a call, who gets them where, and how strongly.

    Pass it as `cross_attention_kwargs={"subject_conditioning": conditioning}` to a U-Net on which an adapter is
    installed. For other strengths in a later step pass `dataclasses.replace(conditioning, scales=…)`, which shares
    what the fast form has kept. Do not use it in two U-Net calls at the same time.

    Raises:
        ValueError: an argument does not have the shape, range or companion described at its field.
    """

    encoded: EncodedSubjects
    """The subjects of B samples."""
    gate: Gate = field(default_factory=Argmax)
    """Who owns each pixel: the router's decision, or what overrules it."""
    scales: Tensor | None = None
    """(B, N) η: multiplies a subject's CLIP term; None is 1, 0 removes the term exactly."""
    reference_scales: Tensor | None = None
    """(B, N) at least 0: e^γ of a subject's reference keys; None is 1, 0 removes the keys exactly."""
    guidance: bool = False
    """True: the U-Net's batch is [B unconditional; B conditional]."""
    unconditional: Unconditional = "empty"
    """What the unconditional half gets (`guidance.py`)."""
    record: RecordedMaps | None = None
    """Where every layer's maps go; None keeps none."""
    fast: bool = True
    """False takes the plain form, which reads like the equations and gives the same up to rounding. It is also taken
    wherever a gradient may be asked for."""
    cache: StepCache | None = field(default=None, repr=False)
    """What the fast form keeps between U-Net calls; None begins a new one, and so do other subjects."""

    def __post_init__(self) -> None:
        if self.cache is None or self.cache.encoded is not self.encoded:
            self.gate.check(self.encoded.present)  # not again for every step
            object.__setattr__(self, "cache", StepCache(self.encoded))
        self._check_scales("scales", self.scales)
        self._check_scales("reference_scales", self.reference_scales)
        if self.reference_scales is not None and (self.reference_scales < 0).any():
            raise ValueError(f"reference_scales must be at least 0, got {self.reference_scales.tolist()}")
        if self.record is not None and not self.gate.one_owner:
            raise ValueError("without the router there are no maps to record")
        check_unconditional(self.unconditional)

    @property
    def takes_fast_form(self) -> bool:
        """Whether the next U-Net call takes the fast form: asked for, and no gradient could be."""
        return self.fast and not self.gate.has_gradient and not torch.is_grad_enabled()

    @property
    def needs_router(self) -> bool:
        """Whether maps must be computed: they decide, or somebody wants to see them."""
        return self.gate.needs_router or self.record is not None

    def slot_scales(self) -> Tensor:
        """(B, S) η of every slot; the background's is 1."""
        return F.pad(self._all_ones() if self.scales is None else self._placed(self.scales), (0, 1), value=1.0)

    def reference_bias(self) -> Tensor:
        """(B, N) γ = log of the reference scales, per copy of the keys (D15); −∞ where they are 0."""
        scales = self._all_ones() if self.reference_scales is None else self._placed(self.reference_scales)
        copies = self.encoded.copies
        return scales.log() if copies is None else (scales / copies).log()

    def _all_ones(self) -> Tensor:
        return torch.ones(self.encoded.batch_size, self.encoded.num_subjects, device=self.encoded.present.device)

    def _placed(self, scales: Tensor) -> Tensor:
        return scales.to(self.encoded.present.device, torch.float32)

    def _check_scales(self, name: str, scales: Tensor | None) -> None:
        expected = (self.encoded.batch_size, self.encoded.num_subjects)
        if scales is not None and scales.shape != expected:
            raise ValueError(f"{name} must be (B, N) = {expected}, got {tuple(scales.shape)}")
        if scales is not None and not scales.isfinite().all():
            raise ValueError(f"{name} must be finite, got {scales.tolist()}")
