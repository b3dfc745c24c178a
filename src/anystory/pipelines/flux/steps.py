"""What happens between two sampling steps of FLUX: windows, per-subject schedules, recording, the caller's callback."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from anystory.models.flux.inputs import FluxInputs, Placed, Window
from anystory.models.flux.owners import NOBODY
from anystory.models.flux.state import Acting, FluxRoutingState
from anystory.models.router import RoutingMaps
from anystory.pipelines.routing_record import RoutingRecord
from anystory.subjects import Subject

__all__ = ["FluxStepHook"]


@dataclass(frozen=True, kw_only=True)
class FluxStepHook:
    """The `callback_on_step_end` that a call hands to diffusers; the caller's own runs inside it."""

    state: FluxRoutingState
    inputs: FluxInputs
    """With the scales that hold inside the subjects' own windows."""
    subjects: Sequence[Sequence[Subject]]
    """Of each of B pictures."""
    appearance: Window
    references: Window
    tokens: tuple[int, int]
    """Rows and columns of the picture's tokens."""
    record: RoutingRecord
    callback: Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]] | None
    recorded_steps: Container[int] = ()

    def before(self, step: int, steps: int) -> None:
        """Set what acts in a step, of so many."""
        done = step / steps
        samples = tuple(
            tuple(_scaled(placed, subject, done) for placed, subject in zip(row, subjects, strict=True))
            for row, subjects in zip(self.inputs.samples, self.subjects, strict=True)
        )
        self.state.inputs = replace(self.inputs, samples=samples)
        placed = [one for row in samples for one in row]
        self.state.acting = Acting(
            appearance=self.appearance.holds(step, steps) and any(one.appearance_scale for one in placed),
            references=self.references.holds(step, steps) and any(one.reference_scale for one in placed),
        )

    def __call__(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """After a step: keep its maps, call the caller's callback, prepare the next."""
        if step in self.recorded_steps and self.state.owners:
            maps = {layer: self._maps(owners) for layer, owners in self.state.owners.items()}
            self.record.add(step, float(timestep), maps)
        if self.callback is not None:
            tensors = self.callback(pipeline, step, timestep, tensors)
        if step + 1 < pipeline.num_timesteps:
            self.before(step + 1, pipeline.num_timesteps)
        return tensors

    def _maps(self, owners: Tensor) -> RoutingMaps:
        """Owners (B, S) as maps (B, N + 1, h, w), the background last; the router is hard, and has no coarse map."""
        subjects = max(map(len, self.subjects))
        slots = owners.masked_fill(owners == NOBODY, subjects)
        maps = F.one_hot(slots, subjects + 1).movedim(-1, 1).unflatten(-1, self.tokens).to(torch.float16)
        return RoutingMaps(coarse=maps, refined=maps, gate=maps)


def _scaled(placed: Placed, subject: Subject, done: float) -> Placed:
    """A subject's scales after this share of the steps: 0 outside its own windows."""
    appears = subject.scale_start <= done < subject.scale_end
    refers = subject.reference_start <= done < subject.reference_end
    return replace(
        placed,
        appearance_scale=placed.appearance_scale * appears,
        reference_scale=placed.reference_scale * refers,
    )
