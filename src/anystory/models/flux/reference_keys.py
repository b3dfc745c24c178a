"""Keys and values of the references in all layers: computed once, read in every further step, and in further calls.

Shapes: T tokens of a reference, T' of them that are kept, H heads of width e, P width of the pooled prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from anystory.models.flux.inputs import EncodedReference

__all__ = ["KeysValues", "ReferenceEntry", "ReferenceKeys"]

KeysValues: TypeAlias = tuple[Tensor, Tensor]
"""(T', H, e) each: of the tokens that show the subject, or of all where masks are off."""


@dataclass(kw_only=True, eq=False)
class ReferenceEntry:
    """One reference beside one prompt."""

    reference: EncodedReference
    pooled: Tensor
    """(P,) of the prompt."""
    guidance: Tensor | None
    """() its scale, where the model has any."""
    masked: bool
    layers: dict[str, KeysValues] = field(default_factory=dict)

    def is_for(self, other: ReferenceEntry) -> bool:
        """Whether its keys are those of another entry: they depend on nothing else."""
        return (
            self.reference is other.reference
            and _same(self.guidance, other.guidance)
            and self.masked == other.masked
            and _same(self.pooled, other.pooled)
        )


class ReferenceKeys:
    """Pass the same one to several calls, and references are computed once for all seeds of a prompt.

    They depend on the reference, the pooled prompt and the guidance, which are compared, and on the weights, which are
    not: take a new one after you change a LoRA, the adapter or the type. It holds what the last call read, and no more.

    Args:
        device: Where keys wait for their layer; None leaves them where they are computed. "cpu" saves memory of a GPU,
            which is 12.6 MB for a reference and layer of FLUX.1-dev in bf16, and costs their way there in each step.
    """

    def __init__(self, device: str | torch.device | None = None) -> None:
        self.device = None if device is None else torch.device(device)
        self._entries: list[ReferenceEntry] = []

    @property
    def bytes(self) -> int:
        """Of all keys and values."""
        tensors = (x for entry in self._entries for pair in entry.layers.values() for x in pair)
        return sum(x.nbytes for x in tensors)

    def claim(self, wanted: Sequence[ReferenceEntry], layers: int) -> list[ReferenceEntry]:
        """The entries of a call: those that are here and whole, in so many layers, and new ones. Others are dropped."""
        whole = [entry for entry in self._entries if len(entry.layers) == layers]
        found = [next((entry for entry in whole if entry.is_for(new)), new) for new in wanted]
        self._entries = found
        return found

    def keep(self, entry: ReferenceEntry, layer: str, key: Tensor, value: Tensor) -> None:
        """Keep what a layer made of a reference, (T', H, e) each."""
        if self.device is not None:
            key, value = key.to(self.device), value.to(self.device)
            if self.device.type == "cpu" and torch.cuda.is_available():
                key, value = key.pin_memory(), value.pin_memory()
        entry.layers[layer] = key, value


def _same(own: Tensor | None, other: Tensor | None) -> bool:
    if own is None or other is None:
        return own is other
    return own.device == other.device and torch.equal(own, other)
