"""What happens between two sampling steps of FLUX.2 klein: strengths, routing, recording, the caller's callback."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from anystory.models.klein.gathering import Gathered, Gathering
from anystory.models.klein.inputs import PlacedSubject
from anystory.models.klein.routing import AttentionRouting, decide_owners
from anystory.models.klein.state import Bits, KleinState, region_bits
from anystory.models.router import RoutingMaps
from anystory.pipelines.routing_record import RoutingRecord
from anystory.subjects import Subject

__all__ = ["KleinStepHook", "RoutingPlan"]

_LAYER = "owners"
"""The name of the record's only layer: owners hold for all of them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RoutingPlan:
    """Routing by attention in one call."""

    how: AttentionRouting
    layers: frozenset[str]
    words: Sequence[Sequence[Sequence[int]]]
    """See `Gathering`."""


@dataclass(kw_only=True, eq=False)
class KleinStepHook:
    """The `callback_on_step_end` that a call hands to diffusers; the caller's own runs inside it."""

    state: KleinState
    subjects: Sequence[Sequence[Subject]]
    """Of each of B pictures."""
    grid: tuple[int, int]
    """Rows and columns of the picture's tokens."""
    record: RoutingRecord
    recorded_steps: Container[int] = ()
    callback: Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]] | None = None
    routing: RoutingPlan | None = None
    scout: bool = False
    """Whether this is the pass that is thrown away: it ends when the owners are known."""
    _scores: tuple[Tensor, ...] = field(default=(), init=False)
    """(N + 1, S) of each sample, where routing has decided."""

    def before(self, step: int, steps: int) -> None:
        """Set what acts in a step, of so many."""
        done = step / steps
        self.state.samples = tuple(
            tuple(_scaled(placed, subject, done) for placed, subject in zip(row, subjects, strict=True))
            for row, subjects in zip(self.state.inputs.samples, self.subjects, strict=True)
        )
        self.state.gathering = None
        if self.routing is not None and self.state.routed is None and step == self.routing.how.step:
            self.state.gathering = Gathering(layers=self.routing.layers, words=self.routing.words)

    def __call__(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """After a step: find the owners or keep them, call the caller's callback, prepare the next step."""
        if not self.scout and step in self.recorded_steps:
            self._keep(step, float(timestep))
        if self.state.gathering is not None:
            self._decide(self.state.gathering.result())
        if self.scout:
            pipeline._interrupt = self.state.routed is not None
        elif self.callback is not None:
            tensors = self.callback(pipeline, step, timestep, tensors)
        if step + 1 < pipeline.num_timesteps:
            self.before(step + 1, pipeline.num_timesteps)
        return tensors

    def _decide(self, found: Sequence[Gathered]) -> None:
        assert self.routing is not None
        routed, scores = [], []
        for sample, gathered in zip(self.state.inputs.samples, found, strict=True):
            bits, decided = _routed_bits(sample, gathered, self.grid, self.routing.how)
            routed.append(bits)
            scores.append(decided)
        self.state.routed, self._scores = tuple(routed), tuple(scores)

    def _keep(self, step: int, timestep: float) -> None:
        """Record who is where, if anybody is held to a place."""
        bits = self.state.routed or [region_bits(sample) for sample in self.state.inputs.samples]
        if not any(placed for placed, _ in bits):
            return
        slots = max(map(len, self.subjects)) + 1
        owners = torch.stack([self._map(one, len(row), slots) for one, row in zip(bits, self.subjects, strict=True)])
        coarse = owners
        if self._scores:
            padded = [_padded(scores, slots).unflatten(-1, self.grid) for scores in self._scores]
            coarse = torch.stack(padded).to(torch.float16)
        self.record.add(step, timestep, {_LAYER: RoutingMaps(coarse=coarse, refined=owners, gate=owners)})

    def _map(self, bits: Bits, subjects: int, slots: int) -> Tensor:
        """(slots, h, w): 1 divided among those who are at a pixel, or the background's."""
        placed, owners = bits
        here = torch.zeros(slots, self.grid[0] * self.grid[1])
        for n in range(subjects):
            here[n] = 1 if n not in placed or owners is None else (owners >> n & 1).float()
        here[-1] = here[:-1].sum(dim=0) == 0
        return (here / here.sum(dim=0)).unflatten(-1, self.grid).to(torch.float16)


def _routed_bits(
    sample: Sequence[PlacedSubject], gathered: Gathered, grid: tuple[int, int], how: AttentionRouting
) -> tuple[Bits, Tensor]:
    """A sample's owners: regions as they are, and by attention those who have none, where no region lies."""
    placed, fixed = region_bits(sample)
    bits = torch.zeros(grid[0] * grid[1], dtype=torch.int64) if fixed is None else fixed
    free = [n for n in range(len(sample)) if n not in placed]
    scores = torch.zeros(len(sample) + 1, len(bits))
    if not free:
        return (placed, bits), scores
    own = Gathered(photos=gathered.photos[free], words=gathered.words[free])
    decided = decide_owners(own, grid, how, open_pixels=bits == 0)
    for i, n in enumerate(free):
        bits = bits | ((decided.owners == i).long() << n)
        scores[n] = decided.scores[i]
    scores[-1] = decided.scores[-1]
    return (frozenset(range(len(sample))), bits), scores


def _padded(scores: Tensor, slots: int) -> Tensor:
    """(N + 1, S) as (slots, S): the background stays the last."""
    empty = scores.new_zeros(slots - len(scores), scores.shape[1])
    return torch.cat([scores[:-1], empty, scores[-1:]])


def _scaled(placed: PlacedSubject, subject: Subject, done: float) -> PlacedSubject:
    """A subject's strength after this share of the steps: 0 outside its own window."""
    return replace(placed, strength=placed.strength * (subject.reference_start <= done < subject.reference_end))
