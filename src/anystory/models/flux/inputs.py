"""What a call with subjects gives the transformer: encoded references, who is in which picture, and from when to when.

Shapes: R references, B samples, T tokens of a reference, S of the picture, C width of the text encoder's states.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from anystory.models.flux.owners import Grouping, Groups


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedReference:
    """One subject, as the transformer reads it."""

    appearance: Tensor
    """(81, C) tokens that stand beside the prompt for a few steps, not scaled yet."""
    routing: Tensor | None
    """(9, C) tokens that decide which pixels are the subject's; None where a call needs no router."""
    latents: Tensor
    """(T, 64) packed latents of the reference."""
    mask: Tensor
    """(T,) bool: which of them show the subject."""

    def to(self, device: torch.device) -> EncodedReference:
        """The same on a device; itself if it is there."""
        latents = self.latents.to(device)
        if latents is self.latents:
            return self
        return EncodedReference(
            appearance=self.appearance.to(device),
            routing=None if self.routing is None else self.routing.to(device),
            latents=latents,
            mask=self.mask.to(device),
        )


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A subject in one sample."""

    reference: int
    """Index of its row, see `FluxInputs.rows`."""
    appearance_scale: float = 1.0
    """Weight of its appearance tokens in the softmax, next to the 1 of all others; 0 leaves them out."""
    reference_scale: float = 1.0
    """The same of its reference tokens."""
    region: Tensor | None = None
    """(S,) bool: the pixels that are this subject's and nobody else's; None leaves it to the router."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FluxInputs:
    """All that is fixed for a call."""

    references: tuple[EncodedReference, ...]
    prompts: tuple[int, ...]
    """For each reference the sample whose pooled text it goes with: its keys depend on that (and on the guidance)."""
    samples: tuple[tuple[Placed, ...], ...]
    """The subjects of each of B samples, at least one in the call."""
    appearance_scale: float = 0.6
    """Factor on the appearance tokens."""
    reference_shift: float = 0.0
    """Added to the scores of every reference token."""
    use_masks: bool = True
    """Whether the picture and the text read only those reference tokens that show the subject."""
    use_router: bool = True
    """False: every subject is at every pixel."""
    fast: bool = True
    """False takes the plain form: one bias over all keys instead of groups of pixels by owner."""
    group: Grouping = Groups.of
    """How the fast form finds the groups where logits decide."""

    def __post_init__(self) -> None:
        if len(self.prompts) != len(self.references):
            raise ValueError(f"prompts must name a sample for each of {len(self.references)} references")
        rows = [placed.reference for sample in self.samples for placed in sample]
        if not rows or max(rows) >= len(self.references):
            raise ValueError("samples must name references, and only such as are there")
        if any(min(p.appearance_scale, p.reference_scale) < 0 for sample in self.samples for p in sample):
            raise ValueError("a subject's scales must be at least 0")

    @property
    def most_subjects(self) -> int:
        """N of the sample with the most subjects."""
        return max(map(len, self.samples))

    @property
    def routes(self) -> bool:
        """Whether pixels have owners at all: with one subject and no region all are its own."""
        placed = [p for sample in self.samples for p in sample]
        return self.use_router and (self.most_subjects > 1 or any(p.region is not None for p in placed))

    @property
    def needs_router(self) -> bool:
        """Whether routing tokens must run: somewhere two or more subjects have no region and compete."""
        return self.routes and any(sum(p.region is None for p in sample) > 1 for sample in self.samples)

    def appearance_tokens(self, samples: int) -> Tensor:
        """(B, N · 81, C) scaled, subject after subject; samples with fewer subjects are filled up with zeros."""
        return self._stacked([r.appearance * self.appearance_scale for r in self.references], samples)

    def routing_tokens(self, samples: int) -> Tensor:
        """(B, N · 9, C), likewise.

        Raises:
            ValueError: a reference was encoded without them.
        """
        tokens = [r.routing for r in self.references]
        if any(t is None for t in tokens):
            raise ValueError("the router needs every reference's routing tokens, and one was encoded without")
        return self._stacked([t for t in tokens if t is not None], samples)

    def present(self, device: torch.device) -> Tensor:
        """(B, N) bool: which of the places are filled."""
        counts = torch.tensor([len(sample) for sample in self.samples], device=device)
        return torch.arange(self.most_subjects, device=device) < counts[:, None]

    def _stacked(self, tokens: list[Tensor], samples: int) -> Tensor:
        if samples != len(self.samples):
            raise ValueError(f"the transformer runs on {samples} samples, but the subjects are for {len(self.samples)}")
        count, width = tokens[0].shape
        out = tokens[0].new_zeros(samples, self.most_subjects, count, width)
        for i, sample in enumerate(self.samples):
            for n, placed in enumerate(sample):
                out[i, n] = tokens[placed.reference]
        return out.flatten(1, 2)


@dataclass(frozen=True, kw_only=True)
class Window:
    """From when to when something acts, as shares of the steps."""

    start: float
    end: float

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end <= 1:
            raise ValueError(f"a window must be 0 <= start <= end <= 1, got {self.start} to {self.end}")

    def holds(self, step: int, steps: int) -> bool:
        """Whether it is open at a step, of so many; ends are rounded half up, the start is in it and the end is not."""
        return int(steps * self.start + 0.5) <= step < int(steps * self.end + 0.5)
