"""A loaded FLUX.1."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import torch
from diffusers import FluxPipeline

from anystory.engine.backends.base import Limits, Numbers
from anystory.engine.backends.flux_job import check_flux_job
from anystory.engine.backends.loras import add_loras
from anystory.engine.backends.pipeline_call import PipelineCall, segment_picture
from anystory.engine.backends.pipeline_files import Offloading, tile, weight_places
from anystory.engine.backends.previews import LatentColours, latent_colours
from anystory.engine.background import in_background
from anystory.engine.errors import OptionError
from anystory.engine.job import Job
from anystory.engine.options import ModelOptions
from anystory.engine.record.provenance import weight_hashes
from anystory.engine.vocabulary import UnknownWord, unknown_words
from anystory.models.flux.reference_keys import ReferenceKeys
from anystory.pipelines.flux import AnyStoryFluxPipeline
from anystory.pipelines.flux.loading import REDUX
from anystory.pipelines.inputs import EncodedSubject
from anystory.pipelines.loading.quantizing import quantization_config, store_in_fp8
from anystory.segment.fusion import Fusion
from anystory.segment.segmentation import Segmentation
from anystory.subjects import Subject

__all__ = ["FluxModel"]

_FEW_STEPS = 4
"""Of a model without guidance embedding: like FLUX.1-schnell it was distilled to as many."""
_LONGEST_PROMPT = 512
"""T5 tokens that diffusers' pipeline takes."""
_QUANTISED = ("transformer", "text_encoder_2")
"""The parts that are large: 24 of the 34 GB in bfloat16, and 10."""


class FluxModel:
    """See `base.Model`.

    Args:
        options: Which model, and how it is run.

    Attributes:
        pipe: The pipeline.

    Raises:
        ValueError: no such model, device or type, or options that do not go together.
        OSError: a file is missing.
    """

    def __init__(self, options: ModelOptions) -> None:
        options = options.absolute()
        self.pipe = _pipeline(options)
        add_loras(self.pipe, options.loras)
        if options.quantize == "fp8":  # after the LoRAs, which stay as they are
            store_in_fp8([getattr(self.pipe, part) for part in _QUANTISED], getattr(torch, options.dtype))
        tiling = tile(self.pipe.vae, options.tiling, offloading=options.offload != "none")
        self.options = replace(options, tiling=tiling)
        self.limits = Limits(
            size_multiple=self.pipe.size_multiple,
            native_size=self.pipe.default_sample_size * self.pipe.vae_scale_factor,
            max_subjects=0 if self.pipe.adapter is None else None,
        )
        self._colours: LatentColours | None = None
        if options.offload == "none":
            self.pipe.to(options.device)
        Offloading(options).on(self.pipe)
        self.pipe.set_progress_bar_config(disable=True)
        self._hashes = in_background(partial(weight_hashes, weight_places(self.pipe, options, REDUX)))

    @property
    def weights(self) -> dict[str, str]:
        """See `base.Model.weights`."""
        return self._hashes.result()

    def unknown_words(self, prompt: str) -> list[UnknownWord]:
        """See `base.Model.unknown_words`."""
        return unknown_words(prompt, (self.pipe.tokenizer, self.pipe.tokenizer_2))

    def numbers(self, job: Job) -> Numbers:
        """See `base.Model.numbers`: the model's or the adapter's value, diffusers', or 4 steps without guidance."""
        own = self.pipe.defaults(bool(job.subjects))
        standard = inspect.signature(FluxPipeline.__call__).parameters
        guided = self._is_guided
        steps = standard["num_inference_steps"].default if guided else _FEW_STEPS
        guidance = standard["guidance_scale"].default if guided else 0.0
        return Numbers(
            steps=job.steps or own.get("num_inference_steps", steps),
            guidance=own.get("guidance_scale", guidance) if job.guidance is None else job.guidance,
            strength=None,
        )

    def encode(self, subject: Subject) -> EncodedSubject:
        """See `base.Model.encode`."""
        [encoded] = self.pipe.encode_subjects([subject])
        return encoded

    def segment(
        self, image: Any, subjects: Sequence[Subject | EncodedSubject], **settings: Any
    ) -> tuple[Segmentation, Fusion]:
        """See `base.Model.segment`."""
        encoded = [self.encode(one) if isinstance(one, Subject) else one for one in subjects]
        return segment_picture(self.pipe, image, encoded, **settings)

    def start(self, job: Job, subjects: Sequence[Subject | EncodedSubject]) -> PipelineCall:
        """See `base.Model.start`."""
        check_flux_job(job)
        if job.guidance and not self._is_guided:
            raise OptionError(
                "guidance",
                "has no effect on this model, which has no guidance embedding, like FLUX.1-schnell: leave it out",
            )
        encoded: list[Any] = [self.encode(one) if isinstance(one, Subject) else one for one in subjects]
        numbers = self.numbers(job)
        own, native = self.pipe.defaults(bool(subjects)), self.limits.native_size
        height, width = job.height or own.get("height", native), job.width or own.get("width", native)
        arguments = {
            "prompt": job.prompt,
            "negative_prompt": job.negative_prompt,
            "true_cfg_scale": job.true_cfg,
            "subjects": encoded,
            "reference_keys": ReferenceKeys(),  # the references are computed for the first seed
            "height": height,
            "width": width,
            "num_inference_steps": numbers.steps,
            "guidance_scale": numbers.guidance,
            "max_sequence_length": own.get("max_sequence_length", self._longest_prompt),
        }
        return PipelineCall(
            pipe=self.pipe,
            arguments=arguments,
            numbers=numbers,
            colours=self._latent_colours,
            latents=lambda packed: self.pipe._unpack_latents(packed[:1], height, width, self.pipe.vae_scale_factor)[0],
            references=tuple(encoding.prepared.image for encoding in encoded),
            cutouts=tuple((encoding.prepared.cutout,) for encoding in encoded),
        )

    def start_batch(self, jobs: Sequence[Job], subjects: Sequence[Sequence[Subject | EncodedSubject]]) -> NoReturn:
        """See `base.Model.start_batch`."""
        raise ValueError(f"FLUX.1 draws one picture in a call here, got {len(jobs)} jobs: draw one after the other")

    @property
    def _is_guided(self) -> bool:
        """Whether the transformer reads a guidance; FLUX.1-schnell's does not."""
        return bool(self.pipe.transformer.config.guidance_embeds)

    @property
    def _longest_prompt(self) -> int:
        """T5 tokens: as many as the model's tokenizer says it was trained with (FLUX.1-schnell: 256)."""
        return min(self.pipe.tokenizer_2.model_max_length, _LONGEST_PROMPT)

    def _latent_colours(self) -> LatentColours:
        """What makes previews of this model's latents, found when first asked for."""
        if self._colours is None:
            self._colours = latent_colours(self.pipe.vae, torch.device(self.options.device))
        return self._colours


def _pipeline(options: ModelOptions) -> Any:
    """The pipeline as it lies on disk, in fewer bits where bitsandbytes does that while it loads."""
    dtype = getattr(torch, options.dtype)
    parts = {"adapter": options.adapter, "image_encoder": options.image_encoder}
    given: dict[str, Any] = {name: place for name, place in parts.items() if place is not None}
    if options.quantize in ("nf4", "int8"):
        given["quantization_config"] = quantization_config(options.quantize, _QUANTISED, dtype)
    return AnyStoryFluxPipeline.from_pretrained(options.model, variant=options.variant, dtype=dtype, **given)
