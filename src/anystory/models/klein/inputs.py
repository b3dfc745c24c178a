"""What a call with subjects gives FLUX.2: encoded references, who is in which sample, and how it is all read.

Shapes: B samples, R photos, T tokens of a photo, S of the picture, L of text, C channels of a packed latent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from anystory.models.klein.reading import Isolation

__all__ = ["ISOLATIONS", "TEXT_GATES", "KleinInputs", "KleinReference", "PlacedSubject", "TextGate"]

TextGate: TypeAlias = Literal["none", "padding", "all"]
ISOLATIONS: tuple[Isolation, ...] = ("off", "on", "strict")
TEXT_GATES: tuple[TextGate, ...] = ("none", "padding", "all")


@dataclass(frozen=True, kw_only=True, eq=False)
class KleinReference:
    """One photo of a subject, as the transformer reads it."""

    latents: Tensor
    """(T, C), row by row."""
    grid: tuple[int, int]
    """Rows and columns; T is their product."""

    def to(self, device: torch.device) -> KleinReference:
        """The same on a device."""
        return KleinReference(latents=self.latents.to(device), grid=self.grid)


@dataclass(frozen=True, kw_only=True, eq=False)
class PlacedSubject:
    """A subject in one sample."""

    photos: tuple[int, ...]
    """Indices of its photos, see `KleinInputs.references`."""
    strength: float = 1.0
    """Weight of its photos' tokens in the softmax, next to the 1 of all others; 0 leaves them out."""
    region: Tensor | None = None
    """(S,) bool, on the CPU: where it is. None: everywhere, or where the routing finds it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class KleinInputs:
    """All that is fixed for a call.

    Photos stand after what the pipeline's own pictures take of the sequence, those of a sample's first subject first.
    Photo k of every sample has the same position ids, so all photos of a call have the same grid.
    """

    references: tuple[KleinReference, ...]
    samples: tuple[tuple[PlacedSubject, ...], ...]
    """The subjects of each of B samples."""
    isolation: Isolation = "on"
    text_gate: TextGate = "none"
    padding: tuple[Tensor, ...] = ()
    """(B, L) bool: the padding of the prompts and, with guidance, of the negative prompts; for the gate "padding"."""
    fast: bool = True
    """False takes the plain form: the stock attention with one matrix of biases."""

    def __post_init__(self) -> None:
        if self.isolation not in ISOLATIONS:
            raise ValueError(f"`isolation` must be one of {', '.join(ISOLATIONS)}, got {self.isolation!r}")
        if self.text_gate not in TEXT_GATES:
            raise ValueError(f"`text_gate` must be one of {', '.join(TEXT_GATES)}, got {self.text_gate!r}")
        if len({reference.grid for reference in self.references}) > 1:
            raise ValueError("all photos of a call must have one size: encode them with the same `reference_size`")

    @property
    def slots(self) -> int:
        """The most photos in a sample."""
        return max(sum(len(placed.photos) for placed in sample) for sample in self.samples)

    def closed(self, call: int, sample: int, text: int) -> Tensor | None:
        """(L,) bool: text rows of a sample that read no reference; None for none.

        Args:
            call: 0 for the prompt, 1 for the negative one.
            sample: Which.
            text: L.
        """
        if self.text_gate == "all":
            return torch.ones(text, dtype=torch.bool)
        return self.padding[call][sample] if self.text_gate == "padding" else None
