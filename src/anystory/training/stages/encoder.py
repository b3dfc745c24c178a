"""Stage 1, `encoder`: subject QFormer, ReferenceNet, Ŵ and W̃, with the diffusion loss (paper, section 3.4)."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor, nn

from anystory.models.conditioning import SubjectConditioning
from anystory.models.encoders import EncodedSubjects
from anystory.models.gates import FixedMaps
from anystory.models.guidance import background_everywhere
from anystory.training.data.stream import Sample
from anystory.training.stages.common import Share
from anystory.training.stages.personal import PersonalOptions, PersonalStage


class EncoderOptions(PersonalOptions):
    """Who receives a subject's features while there is no router yet (D13)."""

    gate: Literal["paper", "masks"] = "masks"
    """`paper`: one subject per sample, on every pixel. `masks`: true instances, the rest is the background's."""
    router_share: Share = 0.0
    """Share of the steps in which the adapter's router, as it is, decides instead of `gate`. True masks are sharper
    than what the encoders meet when a picture is drawn; of use once a router has been trained. The paper's is 0."""
    free_drop: Share = 0.05
    """Share of samples seen as the unconditional half sees them: no text, the background slot everywhere (D8)."""

    @model_validator(mode="after")
    def _one_in_the_paper(self) -> EncoderOptions:
        if self.gate == "paper" and self.max_subjects != 1:
            raise ValueError("gate 'paper' needs max_subjects 1 (one subject per sample)")
        return self


class EncoderStage(PersonalStage):
    """The adapter without its router."""

    name = "encoder"
    options_type = EncoderOptions
    options: EncoderOptions

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.adapter.stage_parameters("encoder"))

    def gates(self, batch: Sample) -> Tensor:
        """One-hot owners (B, S, H, W), the background last."""
        subjects = self.instance_masks(batch)
        if self.options.gate == "paper":
            subjects = torch.ones_like(subjects)
        return torch.cat([subjects, 1 - subjects.sum(dim=1, keepdim=True)], dim=1)

    def forward(self, batch: Sample, generator: torch.Generator) -> dict[str, Tensor]:
        batch, encoded = self.encode_batch(batch)
        count, device = len(batch["instances"]), batch["instances"].device
        free, text_drop, clip_drop = (
            torch.rand(count, generator=generator, device=device) < share
            for share in (self.options.free_drop, self.options.caption_drop, self.options.clip_drop)
        )
        encoded = encoded.drop_clip(clip_drop)
        share = self.options.router_share
        if share and torch.rand((), generator=generator, device=device) < share:
            present = encoded.present.clone()
            present[:, :-1] &= ~free[:, None]
            conditioning = SubjectConditioning(encoded=replace(encoded, present=present))
        else:
            gates = self.gates(batch)
            gates = torch.where(free[:, None, None, None], background_everywhere(gates), gates)
            conditioning = SubjectConditioning(encoded=encoded, gate=FixedMaps(gates))
        loss, plain = self.diffusion(batch, generator, conditioning, text_drop | free)
        return {"loss": loss, "mse": plain}

    def held_out_conditioning(self, batch: Sample, encoded: EncodedSubjects) -> SubjectConditioning:
        return SubjectConditioning(encoded=encoded, gate=FixedMaps(self.gates(batch)))

    def picture_conditioning(self, batch: Sample, encoded: EncodedSubjects) -> SubjectConditioning:
        return SubjectConditioning(encoded=encoded, gate=FixedMaps(self.gates(batch)), guidance=True)
