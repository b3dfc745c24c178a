"""What happens between two sampling steps: recording, the caller's callback, the scales' schedules (D9)."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from anystory.models.conditioning import RecordedMaps, SubjectConditioning
from anystory.models.install import CONDITIONING
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

    def at(self, conditioning: SubjectConditioning, fraction: float) -> SubjectConditioning:
        """The same with the scales of the step before which `fraction` ∈ [0, 1) of all steps is done."""
        active = (self.scale_start <= fraction) & (fraction < self.scale_end)
        reference_active = (self.reference_start <= fraction) & (fraction < self.reference_end)
        return replace(
            conditioning, scales=self.scale * active, reference_scales=self.reference_scale * reference_active
        )


@dataclass(frozen=True, kw_only=True)
class StepHook:
    """The `callback_on_step_end` that a call hands to diffusers; the caller's own runs inside it."""

    conditioning: SubjectConditioning
    """Of the call, before its schedule."""
    schedule: ScaleSchedule
    record: RoutingRecord
    recorded_steps: Container[int]
    callback: Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]] | None
    attention_kwargs: dict[str, Any] = field(default_factory=dict)
    """What diffusers passes to the U-Net's attention in every step: here each step finds its own conditioning."""
    maps: RecordedMaps = field(default_factory=RecordedMaps)
    """Of the step that has just been made, if it is recorded."""

    def before(self, step: int, fraction: float, guidance: bool) -> None:
        """Set what a step needs; `fraction` of all steps is done before it."""
        record = self.maps if step in self.recorded_steps else None
        conditioning = replace(self.conditioning, guidance=guidance, record=record)
        self.attention_kwargs[CONDITIONING] = self.schedule.at(conditioning, fraction)

    def __call__(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """After a step: keep its maps, call the caller's callback, prepare the next."""
        if step in self.recorded_steps:
            self.record.add(step, float(timestep), self.maps.maps)
        if self.callback is not None:
            tensors = self.callback(pipeline, step, timestep, tensors)
        if step + 1 < pipeline.num_timesteps:
            # A callback may have switched guidance off (diffusers' SDXLCFGCutoffCallback): the batch then halves.
            guidance = pipeline.do_classifier_free_guidance
            self.before(step + 1, (step + 1) / pipeline.num_timesteps, guidance)
        return tensors
