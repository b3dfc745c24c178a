"""Stage 2, `router`: routing QFormer and per-layer routers, with diffusion and routing loss (paper, section 3.4)."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from anystory.models.conditioning import SubjectConditioning
from anystory.models.encoders import EncodedSubjects
from anystory.models.router import routing_loss

from ..components import ModelFolder
from ..stream import Sample
from ..validation import Tally, routing_overlap
from .common import Share, read_options
from .personal import PersonalOptions, PersonalStage


class RouterOptions(PersonalOptions):
    """Settings of the routing loss."""

    caption_drop: Share = 0.0
    clip_drop: Share = 0.0
    gumbel_temperature: float = Field(default=1.0, gt=0)
    route_loss_weight: float = Field(default=0.1, ge=0)
    """λ of the routing loss."""
    coarse_weight: float = Field(default=1.0, ge=0)
    """Weight of the coarse maps' term (D5; 0 is the paper's)."""
    include_background: bool = False
    """Count slot N + 1 in the routing loss (D14; false is the paper's)."""


class RouterStage(PersonalStage):
    """The adapter's router; both encoders stay as stage 1 left them."""

    name = "router"
    needs_masks = True  # one without a mask would say that its subject is everywhere
    main_figure = "iou_refined"
    larger_is_better = True
    options_type = RouterOptions
    options: RouterOptions

    def __init__(self, folder: ModelFolder) -> None:
        if folder.recipe.start is None and not folder.has("adapter"):
            raise ValueError(
                f"{folder.path} holds no adapter, and a router needs trained encoders: train stage 'encoder' into this "
                "--out first, or name an adapter's folder (start in the recipe, --adapter)"
            )
        super().__init__(folder)
        self.options = read_options(RouterOptions, folder.recipe.stages["router"].options, "router")

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.adapter.stage_parameters("router"))

    def forward(self, batch: Sample, generator: torch.Generator) -> dict[str, Tensor]:
        o = self.options
        device, count = batch["instances"].device, len(batch["caption"])
        text_drop, clip_drop = (
            torch.rand(count, generator=generator, device=device) < share for share in (o.caption_drop, o.clip_drop)
        )
        conditioning = self.conditioning_type(
            encoded=self.encode_subjects(batch).drop_clip(clip_drop),
            gumbel_temperature=o.gumbel_temperature,
            generator=generator,
            record="loss",
        )
        loss, plain = self.diffusion(batch, generator, conditioning, text_drop)
        masks = self.instance_masks(batch)
        routing = routing_loss(
            conditioning.maps,
            masks,
            conditioning.encoded.present,
            weight=o.route_loss_weight,
            coarse_weight=o.coarse_weight,
            include_background=o.include_background,
        )
        return {"loss": loss + routing, "mse": plain, "routing": routing.detach()}

    def held_out_conditioning(self, batch: Sample, encoded: EncodedSubjects) -> SubjectConditioning:
        return SubjectConditioning(encoded=encoded, record="loss")

    def score_attention(self, attention_kwargs: dict[str, Any] | None, batch: Sample, tally: Tally) -> None:
        """Overlap of the routing with the true masks, over all noise levels: `iou_coarse`, and `iou_refined`."""
        assert attention_kwargs is not None
        maps = attention_kwargs["subject_conditioning"].maps.values()
        masks = self.instance_masks(batch)
        tally.add("iou_coarse", *routing_overlap([m.coarse for m in maps], masks, batch["present"]))
        tally.add("iou_refined", *routing_overlap([m.refined for m in maps], masks, batch["present"]))

    def picture_conditioning(self, batch: Sample, encoded: EncodedSubjects) -> SubjectConditioning:
        return SubjectConditioning(encoded=encoded, guidance=True, record="pictures")

    def picture_rows(self, pictures: Tensor, conditioning: SubjectConditioning) -> list[list[Tensor]]:
        """The owners at the last step: the mean over layers of the refined maps, a subject per colour channel."""
        side = pictures.shape[-2:]
        layers = [
            nn.functional.interpolate(m.refined.float(), size=side, mode="bilinear") for m in conditioning.maps.values()
        ]
        mean = torch.stack(layers).mean(dim=0)[:, :-1].cpu()
        channels = torch.zeros(len(mean), 3, *side)
        channels[:, : mean.shape[1]] = mean[:, :3]
        return [list(channels * 2 - 1)]
