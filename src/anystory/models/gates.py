"""Gates: how σ, the owner of every pixel, follows from the router's logits (paper, section 3.3).

`Argmax` lets the router decide; `Gumbel` does so with a gradient, for training. `FixedRegions` overrules the router,
`FixedMaps` replaces it, and `Everywhere` is the paper's comparison without a router.

Shapes: B samples, N subjects, S = N + 1 slots with the background last, H × W a mask's size, h × w a map's size,
L = h · w its pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from anystory.models.router import Size, gumbel_noise, one_hot, resize, sigma


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelGroup:
    """All pixels of one sample that belong to one slot; never empty."""

    sample: int
    """Index of the sample, 0 … B − 1."""
    slot: int
    """Index of the slot, N for the background."""
    pixels: Tensor
    """(n,) int64: indices among the layer's L pixels, rising."""


@dataclass(kw_only=True, eq=False)
class Decision:
    """Who owns the pixels of one map."""

    logits: Tensor
    """(B, S, h, w): the router's, −∞ where a slot may not be."""
    gate: Tensor
    """(B, S, h, w) float32: σ."""
    groups: tuple[PixelGroup, ...] | None = None
    """The pixels of each slot; None until somebody has read them off the gate."""


class Gate(ABC):
    """One way to decide. The same gate serves every layer and every step of a call."""

    needs_router: bool = True
    """Whether it reads the router's logits; if not, all of them are zero."""
    has_gradient: bool = False
    """Whether σ passes a gradient to the logits."""
    one_owner: bool = True
    """Whether every pixel belongs to exactly one slot."""

    def check(self, present: Tensor) -> None:  # noqa: B027 (most gates fit every call)
        """Raises ValueError where the gate does not fit a call with these slots, (B, S) bool."""

    def prepare(self, sizes: Iterable[Size]) -> None:  # noqa: B027 (most gates need nothing)
        """Makes what it needs for maps of these sizes, before the first layer runs."""

    @abstractmethod
    def __call__(self, logits: Tensor, noise: dict[Size, Tensor]) -> Decision:
        """Decides one map.

        Args:
            logits: (B, S, h, w), −∞ for absent slots.
            noise: What was drawn for this layer in this U-Net call, by size. Gradient checkpointing runs a layer
                twice, and the second run must decide as the first.
        """


class Argmax(Gate):
    """Every pixel goes to the slot with the largest logit (D6, inference)."""

    def __call__(self, logits: Tensor, noise: dict[Size, Tensor]) -> Decision:
        return Decision(logits=logits, gate=sigma(logits))


class Gumbel(Gate):
    """A hard Gumbel-softmax with a straight-through gradient (D6, training).

    Args:
        temperature: Of the softmax, greater than 0.
        generator: Source of the noise.

    Raises:
        ValueError: another temperature.
    """

    has_gradient = True

    def __init__(self, temperature: float = 1.0, generator: torch.Generator | None = None) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature must be greater than 0, got {temperature}")
        self.temperature = temperature
        self.generator = generator

    def __call__(self, logits: Tensor, noise: dict[Size, Tensor]) -> Decision:
        size = (logits.shape[-2], logits.shape[-1])
        if size not in noise:
            noise[size] = gumbel_noise(logits.shape, self.generator, logits.device)
        return Decision(logits=logits, gate=sigma(logits, self.temperature, noise[size]))


class Everywhere(Gate):
    """Every slot that is present has every pixel, the background too: the method without its router."""

    needs_router = False
    one_owner = False

    def __call__(self, logits: Tensor, noise: dict[Size, Tensor]) -> Decision:
        return Decision(logits=logits, gate=(logits > float("-inf")).float())


@dataclass(frozen=True, eq=False)
class FixedMaps(Gate):
    """Masks in the router's place: the true ones in stage 1 (D13), or anybody's."""

    maps: Tensor
    """(B, S, H, W): every pixel is above 0 for exactly one slot, which is present."""
    _owners: dict[Size, Tensor] = field(default_factory=dict, init=False, repr=False)

    needs_router = False

    def check(self, present: Tensor) -> None:
        maps, slots = self.maps, tuple(present.shape)
        if maps.ndim != 4 or maps.shape[:2] != slots:
            raise ValueError(f"maps must be (B, S, H, W) with (B, S) = {slots}, got {tuple(maps.shape)}")
        if maps.is_meta:  # no values to look at
            return
        owned = (maps > 0) & present.to(maps.device)[:, :, None, None]
        if not (owned.sum(dim=1) == 1).all() or ((maps > 0) & ~owned).any():
            raise ValueError("maps must give every pixel to exactly one slot that is present")

    def prepare(self, sizes: Iterable[Size]) -> None:
        for size in sizes:
            self._owner(size)

    def __call__(self, logits: Tensor, noise: dict[Size, Tensor]) -> Decision:
        owner = self._owner((logits.shape[-2], logits.shape[-1])).to(logits.device)
        return Decision(logits=logits, gate=owner)

    def _owner(self, size: Size) -> Tensor:
        if size not in self._owners:
            self._owners[size] = one_hot(resize(self.maps.float(), size)).float()
        return self._owners[size]


@dataclass(frozen=True, eq=False)
class FixedRegions(Gate):
    """Inside its region a pixel is the subject's, outside never; where that leaves a choice, the router makes it."""

    regions: Tensor
    """(B, N, H, W) in [0, 1]."""
    given: Tensor
    """(B, N) bool: which subjects have a region."""
    gate: Gate = field(default_factory=Argmax)
    """How the router's choice is made."""
    _allowed: dict[Size, Tensor] = field(default_factory=dict, init=False, repr=False)

    @property
    def has_gradient(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the gate inside."""
        return self.gate.has_gradient

    def check(self, present: Tensor) -> None:
        regions, given, slots = self.regions, self.given, (present.shape[0], present.shape[1] - 1)
        if regions.ndim != 4 or regions.shape[:2] != slots:
            raise ValueError(f"regions must be (B, N, H, W) with (B, N) = {slots}, got {tuple(regions.shape)}")
        if given.shape != slots or given.dtype != torch.bool:
            raise ValueError(f"given must be bool {slots}, got {given.dtype} {tuple(given.shape)}")
        if not regions.isfinite().all():
            raise ValueError("regions must not contain NaN or infinity")
        if (given & ~present[:, :-1].to(given.device)).any():
            raise ValueError("given names a subject that is not present")
        if (given & (regions.flatten(2).amax(dim=2).to(given.device) <= 0)).any():
            raise ValueError("regions: the region of a subject in `given` is empty")

    def prepare(self, sizes: Iterable[Size]) -> None:
        for size in sizes:
            self._allowed_at(size)

    def __call__(self, logits: Tensor, noise: dict[Size, Tensor]) -> Decision:
        allowed = self._allowed_at((logits.shape[-2], logits.shape[-1])).to(logits.device)
        return self.gate(logits.masked_fill(~allowed, float("-inf")), noise)

    def _allowed_at(self, size: Size) -> Tensor:
        if size not in self._allowed:
            self._allowed[size] = allowed_slots(self.regions, self.given, size)
        return self._allowed[size]


def allowed_slots(regions: Tensor, given: Tensor, size: Size) -> Tensor:
    """Which slots a pixel may belong to.

    Inside a fixed region: the subjects whose region it is. Elsewhere: background and subjects without one.

    Args:
        regions: (B, N, H, W) in [0, 1].
        given: (B, N) bool: whose region counts.
        size: (h, w) of the result.

    Returns:
        (B, N + 1, h, w) bool; no pixel is left without a slot.
    """
    given = given.to(regions.device)[:, :, None, None]
    covered = resize(regions.float(), size)
    # A region too small for this size keeps the pixels that it covers most, rather than none.
    inside = given & (covered > 0) & (covered >= covered.amax(dim=(2, 3), keepdim=True).clamp(max=0.5))
    free = ~inside.any(dim=1, keepdim=True)
    return torch.cat([torch.where(given, inside, free), free], dim=1)


def group_pixels(gate: Tensor) -> tuple[PixelGroup, ...]:
    """The groups of a one-hot map, ordered by sample, then slot.

    The sizes are read on the host: on a GPU this waits for the map.

    Args:
        gate: (B, S, L), exactly one 1 per pixel.

    Returns:
        Groups that together hold every pixel of every sample once.
    """
    batch, slots, pixels = gate.shape
    owner = gate.argmax(dim=1) + slots * torch.arange(batch, device=gate.device)[:, None]
    order = owner.flatten().argsort(stable=True) % pixels
    counts: list[int] = gate.sum(dim=2, dtype=torch.int64).flatten().tolist()
    return tuple(
        PixelGroup(sample=place // slots, slot=place % slots, pixels=part)
        for place, part in enumerate(order.split(counts))
        if counts[place]
    )
