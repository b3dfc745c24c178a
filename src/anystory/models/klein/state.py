"""KleinState: what one call of the pipeline decides and keeps while it draws.

Shapes: B samples, L text tokens, S of the picture, P of the picture and the pipeline's own pictures, T of a photo, H
heads of width e.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from anystory.models.klein.gathering import Gathering
from anystory.models.klein.inputs import KleinInputs, PlacedSubject
from anystory.models.klein.reading import ReadingPlan, ReferencePart, SampleReads, dense_bias, reading_plan

__all__ = ["KleinState"]

_APART = 10
"""Between the position ids of two pictures on the first axis, as in the stock pipeline."""

Bits = tuple[frozenset[int], Tensor | None]
"""The subjects that are held to a place, and the bits of each pixel: see `SampleReads`."""


@dataclass(kw_only=True, eq=False)
class KleinState:
    """One call: set `samples` and, once they are known, `routed` before a step.

    A hook on the transformer appends the photos' tokens, so that the pipeline knows nothing of them: it takes the
    prediction of the picture's tokens only.
    """

    inputs: KleinInputs
    pixels: int
    """S."""
    twice: bool = False
    """Whether each step calls the transformer a second time, for the negative prompt."""
    samples: tuple[tuple[PlacedSubject, ...], ...] = ()
    """The inputs' own, with the strengths of the next step."""
    routed: tuple[Bits, ...] | None = None
    """Of each sample, in place of its regions: what the routing found."""
    gathering: Gathering | None = None
    """What is to be found out in the next calls of the transformer."""
    plans: tuple[tuple[Tensor | None, ReadingPlan], ...] = field(default=(), init=False)
    """What samples read in this call of the transformer: which (None for all), and how. Empty for the stock model."""
    call: int = field(default=0, init=False)
    """0 for the prompt, 1 for the negative one."""
    _calls: int = field(default=0, init=False)
    _made: dict[Any, Any] = field(default_factory=dict, init=False)
    """Plans by what they were made from; those of the last step are kept."""
    _own: tuple[ReferencePart, ...] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.samples = self.samples or self.inputs.samples

    def begin(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Start one call of the transformer: its arguments with the photos that act in it."""
        self.call = self._calls % 2 if self.twice else 0
        self._calls += 1
        hidden, ids = arguments["hidden_states"], arguments["img_ids"]
        if self._own is None:
            self._own = _own_parts(ids[0, self.pixels :, 0]) if hidden.shape[1] > self.pixels else ()
        acting = [slot for slot in range(self.inputs.slots) if any(part.bias > -math.inf for part in self._slot(slot))]
        if acting:
            grid = self.inputs.references[0].grid
            more = torch.stack([self._tokens(sample, acting) for sample in range(len(hidden))])
            first = int(_APART * (1 + len(self._own)))
            places = torch.cat([photo_ids(first + _APART * slot, grid) for slot in acting])
            arguments = arguments | {
                "hidden_states": torch.cat([hidden, more.to(hidden)], dim=1),
                "img_ids": torch.cat([ids, places.to(ids).expand(len(ids), -1, -1)], dim=1),
            }
        return self._with_reads(arguments, acting)

    def _with_reads(self, arguments: dict[str, Any], acting: Sequence[int]) -> dict[str, Any]:
        """Decide what the rows read: plans for the processors, or in the plain form a matrix for the stock ones."""
        hidden, text = arguments["hidden_states"], arguments["encoder_hidden_states"].shape[1]
        reads = [self._reads(sample, acting, text) for sample in range(len(hidden))]
        self.plans = ()
        if self.gathering is not None:
            self.gathering.begin(reads, self.call)
        if all(one.is_stock for one in reads):
            return arguments
        if not self.inputs.fast:
            bias = torch.stack([dense_bias(one) for one in reads])[:, None].to(hidden)
            given = arguments.get("joint_attention_kwargs") or {}
            return arguments | {"joint_attention_kwargs": {**given, "attention_mask": bias}}
        alike: dict[Any, list[int]] = {}
        for sample, one in enumerate(reads):
            alike.setdefault(self._key(one, sample), []).append(sample)
        made = {
            key: self._made.get(key) or reading_plan(reads[samples[0]], hidden.device, hidden.dtype)
            for key, samples in alike.items()
        }
        self._made = {key: plan for key, plan in self._made.items() if key[0] != self.call} | made
        every = len(alike) == 1
        self.plans = tuple(
            (None if every else torch.tensor(samples, device=hidden.device), made[key])
            for key, samples in alike.items()
        )
        return arguments

    def _key(self, reads: SampleReads, sample: int) -> Any:
        """What a plan depends on; tensors by their contents, which are small and on the CPU."""
        owners, closed = (None if x is None else x.numpy().tobytes() for x in (reads.owners, reads.closed))
        return self.call, reads.text, reads.references, reads.placed, owners, closed

    def _reads(self, sample: int, acting: Sequence[int], text: int) -> SampleReads:
        assert self._own is not None
        placed, owners = region_bits(self.samples[sample]) if self.routed is None else self.routed[sample]
        photos = tuple(self._slot(slot)[sample] for slot in acting)
        return SampleReads(
            text=text,
            pixels=self.pixels,
            references=(*self._own, *photos),
            placed=placed,
            owners=owners,
            closed=self.inputs.closed(self.call, sample, text),
            isolation=self.inputs.isolation,
        )

    def _slot(self, slot: int) -> list[ReferencePart]:
        """What stands in a place for a photo, in each sample."""
        rows, columns = self.inputs.references[0].grid
        found = []
        for sample in self.samples:
            photos = [(n, placed) for n, placed in enumerate(sample) for _ in placed.photos]
            subject, placed = photos[slot] if slot < len(photos) else (None, None)
            bias = math.log(placed.strength) if placed is not None and placed.strength else -math.inf
            found.append(ReferencePart(length=rows * columns, subject=subject, bias=bias))
        return found

    def _tokens(self, sample: int, acting: Sequence[int]) -> Tensor:
        """(len(acting) · T, C) of a sample; zeros where it has fewer photos than another."""
        photos = [photo for placed in self.samples[sample] for photo in placed.photos]
        empty = torch.zeros_like(self.inputs.references[0].latents)
        return torch.cat(
            [self.inputs.references[photos[slot]].latents if slot < len(photos) else empty for slot in acting]
        )


def region_bits(placements: Sequence[PlacedSubject]) -> Bits:
    """The subjects of a sample that have a region, and for each pixel the bits of those in whose region it lies."""
    regions = {n: placed.region for n, placed in enumerate(placements) if placed.region is not None}
    if not regions:
        return frozenset(), None
    bits = torch.stack([region.long() << n for n, region in regions.items()])
    return frozenset(regions), bits.sum(dim=0)


def photo_ids(first: int, grid: tuple[int, int]) -> Tensor:
    """Position ids (T, 4) of a photo of so many rows and columns: (its place among the pictures, row, column, 0)."""
    rows, columns = (torch.arange(side) for side in grid)
    return torch.cartesian_prod(torch.tensor([first]), rows, columns, torch.tensor([0]))


def _own_parts(places: Tensor) -> tuple[ReferencePart, ...]:
    """The pictures that the pipeline itself has put behind its picture, by their tokens' first position id."""
    _, counts = places.cpu().unique_consecutive(return_counts=True)
    return tuple(ReferencePart(length=length, subject=None) for length in counts.tolist())
