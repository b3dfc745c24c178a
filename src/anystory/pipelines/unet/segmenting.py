"""`segment` on a U-Net: what its router says about noised copies of a picture.

Shapes: R noised copies, c latent channels, h × w latents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, cast

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from anystory.models.adapter import SubjectAdapter
from anystory.models.conditioning import RecordedMaps, SubjectConditioning
from anystory.models.install import CONDITIONING
from anystory.pipelines import inputs
from anystory.pipelines.checks.advice import advise_twins
from anystory.pipelines.segmenting import Look, Seen, SegmentMixin
from anystory.pipelines.unet.encoding import SubjectEncoding, stack_encodings
from anystory.pipelines.unet.placing import Placing
from anystory.pipelines.unet.steps import ScaleSchedule

__all__ = ["UNetSegmentMixin"]

_AT_ONCE = 2**10
"""Latent positions that a U-Net call takes, both halves together: two copies of a picture of the embedded model's size,
one of SDXL's. All copies at once would be a tenth faster on a CPU, but nothing would be told, and no cancelling act,
before the end."""


class UNetSegmentMixin(SegmentMixin):
    """See `SegmentMixin`."""

    _encoding_kind: ClassVar[type[inputs.EncodedSubject]] = SubjectEncoding
    _network: ClassVar[str] = "unet"

    adapter: SubjectAdapter | None
    unet: Any
    scheduler: Any
    vae_scale_factor: int
    _plain_unet: Any

    def _check_segment(self) -> None:
        inputs.check_image_prompts(self.unet, {})
        reads, latents = self.unet.config.in_channels, self.vae.config.latent_channels
        if reads != latents:
            raise ValueError(
                f"`segment` needs a U-Net that reads latents alone ({latents} channels), and this one reads {reads}: "
                "take the model from text to image"
            )
        if not hasattr(self.scheduler, "alphas_cumprod"):
            raise ValueError(
                f"`segment` needs a scheduler with SDXL's noise schedule, and {type(self.scheduler).__name__} has "
                "another: take EulerDiscreteScheduler"
            )

    def _at_once(self, latents: Tensor) -> int:
        return max(_AT_ONCE // (2 * latents.shape[-2] * latents.shape[-1]), 1)

    @contextmanager
    def _router(self, row: Sequence[SubjectEncoding], latents: Tensor, prompt: str) -> Iterator[Look]:
        assert self.adapter is not None
        size = (latents.shape[-2] * self.vae_scale_factor, latents.shape[-1] * self.vae_scale_factor)
        placing, scales, record = self._placed(row, size), self._scales(row), RecordedMaps()
        text = self._text(prompt, size)

        def look(levels: Tensor, noise: Tensor) -> Seen:
            copies = len(levels)
            steps, noised, target = _noised(self.scheduler, levels, latents, noise)
            conditioning = SubjectConditioning(
                encoded=placing.encoded.repeat_interleave(copies),
                scales=scales.scale.repeat(copies, 1),
                reference_scales=scales.reference_scale.repeat(copies, 1),
                guidance=True,  # beside each copy one without subjects, in the same call
                record=record,
            )
            embeds, pooled, times = (part.repeat(2 * copies, *[1] * (part.ndim - 1)) for part in text)
            found = self.unet(
                torch.cat([noised, noised]).to(self.unet.dtype),
                torch.cat([steps, steps]),
                encoder_hidden_states=embeds,
                added_cond_kwargs={"text_embeds": pooled, "time_ids": times},
                cross_attention_kwargs={CONDITIONING: conditioning},
            ).sample
            plain, error = (found.float() - torch.cat([target, target])).square().mean(dim=1).cpu().chunk(2)
            maps = {layer: kept.refined.float() for layer, kept in record.maps.items()}
            return Seen(maps=maps, error=error, plain_error=plain)

        with self.adapter.installed_on(self._plain_unet):
            yield look

    def _placed(self, row: Sequence[SubjectEncoding], size: tuple[int, int]) -> Placing:
        """The subjects without their regions, so that the router says what it sees."""
        free = [one.replace(region=None) for one in row]
        encoded = stack_encodings([free]).to(self._execution_device, self.unet.dtype)
        placing = Placing.of(encoded, [free], size).without_ties([free])
        advise_twins(placing.twins)
        return placing

    def _scales(self, row: Sequence[SubjectEncoding]) -> ScaleSchedule:
        return ScaleSchedule.of([[one.subject for one in row]], self._execution_device)

    def _text(self, prompt: str, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """A prompt's states and pooled state, and the size's ids."""
        embeds, _, pooled, _ = self.encode_prompt(  # pyright: ignore[reportAttributeAccessIssue]
            prompt, device=self._execution_device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        times = StableDiffusionXLPipeline._get_add_time_ids(  # those of image to image and inpainting take more
            cast(Any, self), size, (0, 0), size, embeds.dtype, text_encoder_projection_dim=pooled.shape[-1]
        )
        return embeds, pooled, times.to(embeds.device)


def _noised(scheduler: Any, levels: Tensor, latents: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Latents (1, c, h, w) at noise levels (R,) with noise (R, c, h, w).

    Returns:
        The time steps (R,), the noised latents as the U-Net reads them, and what it should predict of them.
    """
    schedule = scheduler.alphas_cumprod.to(latents.device, torch.float32)
    steps = (levels.to(latents.device) * len(schedule)).round().long().clamp(max=len(schedule) - 1)
    signal, share = schedule[steps].sqrt()[:, None, None, None], (1 - schedule[steps]).sqrt()[:, None, None, None]
    targets = {
        "epsilon": noise,
        "v_prediction": signal * noise - share * latents,
        "sample": latents.expand_as(noise),
    }
    return steps, signal * latents + share * noise, targets[scheduler.config.prediction_type].float()
