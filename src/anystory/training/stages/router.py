"""Stage 2, `router`: routing QFormer and per-layer routers, with diffusion and routing loss (paper, section 3.4)."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from anystory.models.conditioning import RecordedMaps, SubjectConditioning
from anystory.models.configs import AdapterConfig
from anystory.models.encoders import EncodedSubjects
from anystory.models.gates import Gumbel
from anystory.models.router import routing_loss
from anystory.training.data.stream import Sample
from anystory.training.model.components import ModelFolder
from anystory.training.stages.common import Share
from anystory.training.stages.personal import PersonalOptions, PersonalStage
from anystory.training.validation import RunningMean, routing_overlap


class RouterOptions(PersonalOptions):
    """Settings of the routing loss."""

    caption_drop: Share = 0.0
    clip_drop: Share = 0.0
    gumbel_temperature: float = Field(default=1.0, gt=0)
    route_loss_weight: float = Field(default=0.1, ge=0)
    """λ, the weight of the maps' squared error: a mean over pixels and layers where the paper has a sum over pixels, so
    that 0.1 here weighs less than 0.1 there (D5b)."""
    coarse_weight: float = Field(default=1.0, ge=0)
    """Weight of the coarse maps' error beside the refined ones' (D5). 0, the paper's likely reading, leaves them to the
    refined maps' loss, which reaches them only where both share their projections."""
    include_background: bool = False
    """Count slot N + 1 in the routing loss (D14; false is the paper's)."""


def check_coarse_weight(options: RouterOptions, sizes: AdapterConfig) -> None:
    """Raises ValueError where nothing would train the coarse map: its argmax passes no gradient (D5)."""
    if sizes.map_projections == "separate" and not options.coarse_weight:
        raise ValueError(
            "options of stage 'router': coarse_weight must be more than 0 for an adapter with map_projections "
            "'separate', whose coarse map learns from no other loss: say 1.0, or begin with an adapter whose "
            "map_projections are 'shared'"
        )


class RouterStage(PersonalStage):
    """The adapter's router; both encoders stay as stage 1 left them."""

    name = "router"
    needs_masks = True  # one without a mask would say that its subject is everywhere
    main_metric = "iou_refined"
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
        check_coarse_weight(self.options, self.adapter.sizes)

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.adapter.stage_parameters("router"))

    def forward(self, batch: Sample, generator: torch.Generator) -> dict[str, Tensor]:
        o = self.options
        batch, encoded = self.encode_batch(batch)
        device, count = batch["instances"].device, len(batch["caption"])
        text_drop, clip_drop = (
            torch.rand(count, generator=generator, device=device) < share for share in (o.caption_drop, o.clip_drop)
        )
        record = RecordedMaps(keep_graph=True)
        conditioning = SubjectConditioning(
            encoded=encoded.drop_clip(clip_drop), gate=Gumbel(o.gumbel_temperature, generator), record=record
        )
        loss, plain = self.diffusion(batch, generator, conditioning, text_drop)
        masks = self.instance_masks(batch)
        routing = routing_loss(
            record.maps,
            masks,
            conditioning.encoded.present,
            weight=o.route_loss_weight,
            coarse_weight=o.coarse_weight,
            include_background=o.include_background,
        )
        return {"loss": loss + routing, "mse": plain, "routing": routing.detach()}

    def held_out_conditioning(self, batch: Sample, encoded: EncodedSubjects) -> SubjectConditioning:
        return SubjectConditioning(encoded=encoded, record=RecordedMaps(keep_graph=True))

    def score_attention(self, attention_kwargs: dict[str, Any] | None, batch: Sample, means: RunningMean) -> None:
        """Overlap of the routing with the true masks, over all noise levels: `iou_coarse`, and `iou_refined`."""
        assert attention_kwargs is not None
        maps = attention_kwargs["subject_conditioning"].record.maps.values()
        masks = self.instance_masks(batch)
        means.add("iou_coarse", *routing_overlap([m.coarse for m in maps], masks, batch["present"]))
        means.add("iou_refined", *routing_overlap([m.refined for m in maps], masks, batch["present"]))

    def picture_conditioning(self, batch: Sample, encoded: EncodedSubjects) -> SubjectConditioning:
        return SubjectConditioning(encoded=encoded, guidance=True, record=RecordedMaps())

    def picture_rows(self, pictures: Tensor, conditioning: SubjectConditioning) -> list[list[Tensor]]:
        """The owners at the last step: the plain mean over layers of the refined maps, a subject per colour channel."""
        assert conditioning.record is not None
        side, maps = pictures.shape[-2:], conditioning.record.maps.values()
        layers = [nn.functional.interpolate(m.refined.float(), size=side, mode="bilinear") for m in maps]
        mean = torch.stack(layers).mean(dim=0)[:, :-1].cpu()
        channels = torch.zeros(len(mean), 3, *side)
        channels[:, : mean.shape[1]] = mean[:, :3]
        return [list(channels * 2 - 1)]
