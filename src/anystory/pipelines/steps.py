"""What happens between two sampling steps: recording, the caller's callback, the scales' schedules (D9)."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from anystory.models.conditioning import SubjectConditioning
from anystory.pipelines.routing_record import RoutingRecord
from anystory.subjects import Subject

__all__ = ["ScaleSchedule", "StepHook"]


@dataclass(frozen=True, kw_only=True)
class ScaleSchedule:
    """Each subject's scales, and the part of the sampling in which they hold; outside of it they are 0.

    All fields are (B, N) float32, 0 for padding.
    """

    scale: Tensor
    """η."""
    scale_start: Tensor
    scale_end: Tensor
    """Fractions of the steps: step i of n is inside when start ≤ i / n < end."""
    reference_scale: Tensor
    """e^γ."""
    reference_start: Tensor
    reference_end: Tensor

    @classmethod
    def of(cls, pictures: Sequence[Sequence[Subject]], device: torch.device) -> ScaleSchedule:
        """Read the schedule off the subjects of each of B pictures."""
        count = max(map(len, pictures))

        def column(name: str) -> Tensor:
            rows = [[float(getattr(subject, name)) for subject in row] for row in pictures]
            return torch.tensor([row + [0.0] * (count - len(row)) for row in rows], device=device)

        return cls(**{field.name: column(field.name) for field in fields(cls)})

    def apply(self, conditioning: SubjectConditioning, fraction: float) -> None:
        """Set the scales for the step before which `fraction` ∈ [0, 1) of all steps is done."""
        active = (self.scale_start <= fraction) & (fraction < self.scale_end)
        reference_active = (self.reference_start <= fraction) & (fraction < self.reference_end)
        conditioning.set_step_scales(
            scales=self.scale * active, reference_scales=self.reference_scale * reference_active
        )


@dataclass(frozen=True, kw_only=True)
class StepHook:
    """The `callback_on_step_end` that a call hands to diffusers; the caller's own runs inside it."""

    conditioning: SubjectConditioning
    schedule: ScaleSchedule
    record: RoutingRecord
    recorded_steps: Container[int]
    callback: Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]] | None

    def before(self, step: int, fraction: float) -> None:
        """Set what a step needs; `fraction` of all steps is done before it."""
        self.schedule.apply(self.conditioning, fraction)
        self.conditioning.record = "pictures" if step in self.recorded_steps else None

    def __call__(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """After a step: keep its maps, call the caller's callback, prepare the next."""
        if step in self.recorded_steps:
            self.record.add(step, float(timestep), self.conditioning.maps)
        if self.callback is not None:
            tensors = self.callback(pipeline, step, timestep, tensors)
        # A callback may have switched guidance off (diffusers' SDXLCFGCutoffCallback): the batch then halves.
        self.conditioning.guidance = pipeline.do_classifier_free_guidance
        if step + 1 < pipeline.num_timesteps:
            self.before(step + 1, (step + 1) / pipeline.num_timesteps)
        return tensors
