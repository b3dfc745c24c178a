"""A loaded model of SDXL's kind."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from anystory.engine.backends.backgrounds import look_ahead
from anystory.engine.backends.base import Limits, Numbers
from anystory.engine.backends.loras import add_loras
from anystory.engine.backends.pipeline_batch import PipelineBatch
from anystory.engine.backends.pipeline_call import PipelineCall, segment_picture
from anystory.engine.backends.pipeline_files import Offloading, tile, weight_places
from anystory.engine.backends.previews import LatentColours, latent_colours
from anystory.engine.background import in_background
from anystory.engine.job import Job
from anystory.engine.options import ModelOptions
from anystory.engine.record.provenance import weight_hashes
from anystory.engine.source import STRENGTH, SourcePicture, drawing_size, load_source
from anystory.engine.vocabulary import UnknownWord, unknown_words
from anystory.pipelines.inputs import EncodedSubject, check_size
from anystory.pipelines.loading.parts import SDXL_IMAGE_ENCODER
from anystory.pipelines.loading.quantizing import store_in_fp8
from anystory.pipelines.schedulers import rescheduled
from anystory.pipelines.sdxl import AnyStoryImg2ImgPipeline, AnyStoryInpaintPipeline, AnyStoryPipeline
from anystory.segment.fusion import Fusion
from anystory.segment.segmentation import Segmentation
from anystory.subjects import Subject

__all__ = ["SdxlModel"]


class SdxlModel:
    """See `base.Model`.

    Args:
        options: Which model, and how it is run.

    Attributes:
        pipe: The pipeline from text to image.

    Raises:
        ValueError: no such model, device or type, or options that do not go together.
        OSError: a file is missing.
    """

    def __init__(self, options: ModelOptions) -> None:
        options = options.absolute()
        self.pipe = _pipeline(options)
        if options.scheduler is not None or options.karras is not None:
            self.pipe.scheduler = rescheduled(self.pipe.scheduler, options.scheduler, options.karras)
        add_loras(self.pipe, options.loras)
        if options.quantize == "fp8":  # after the LoRAs, which stay as they are
            store_in_fp8([self.pipe.unet], getattr(torch, options.dtype))
        tiling = tile(self.pipe.vae, options.tiling, offloading=options.offload != "none")
        self.options = replace(options, tiling=tiling)
        adapter = self.pipe.adapter
        self.limits = Limits(
            size_multiple=self.pipe.size_multiple,
            native_size=self.pipe.default_sample_size * self.pipe.vae_scale_factor,
            max_subjects=0 if adapter is None else adapter.sizes.max_subjects,
        )
        self._offloading = Offloading(options)
        self._colours: LatentColours | None = None
        if options.offload == "none":
            self.pipe.to(options.device)
        self.pipe.set_progress_bar_config(disable=True)
        # A large model's files take as long to read as a picture to draw; only its record waits for them.
        self._hashes = in_background(partial(weight_hashes, weight_places(self.pipe, options, SDXL_IMAGE_ENCODER)))

    @property
    def weights(self) -> dict[str, str]:
        """See `base.Model.weights`."""
        return self._hashes.result()

    def unknown_words(self, prompt: str) -> list[UnknownWord]:
        """See `base.Model.unknown_words`."""
        return unknown_words(prompt, (self.pipe.tokenizer, self.pipe.tokenizer_2))

    def numbers(self, job: Job) -> Numbers:
        """See `base.Model.numbers`: the model's value, with subjects the adapter's, or diffusers'."""
        own = self.pipe.defaults(bool(job.subjects))
        standard = inspect.signature(StableDiffusionXLPipeline.__call__).parameters

        def default(argument: str) -> Any:
            return own.get(argument, standard[argument].default)

        strength = job.strength
        if job.image is not None and strength is None:
            strength = own.get("strength", STRENGTH["image" if job.mask is None else "mask"])
        steps = job.steps or default("num_inference_steps")
        return Numbers(
            steps=steps,
            ahead=look_ahead(steps) if job.background_seed is not None and job.subjects else 0,
            guidance=default("guidance_scale") if job.guidance is None else job.guidance,
            strength=strength,
        )

    def encode(self, subject: Subject) -> EncodedSubject:
        """See `base.Model.encode`."""
        [encoded] = self._offloading.on(self.pipe).encode_subjects([subject])
        return encoded

    def segment(
        self, image: Any, subjects: Sequence[Subject | EncodedSubject], **settings: Any
    ) -> tuple[Segmentation, Fusion]:
        """See `base.Model.segment`."""
        encoded = [self.encode(one) if isinstance(one, Subject) else one for one in subjects]
        return segment_picture(self._offloading.on(self.pipe), image, encoded, **settings)

    def start(self, job: Job, subjects: Sequence[Subject | EncodedSubject]) -> PipelineCall:
        """See `base.Model.start`."""
        source = None if job.image is None else self._source(job)
        pipe, arguments = self._pipe_for(job, source)
        encoded = _encoded(pipe, subjects)
        arguments |= {"prompt": job.prompt, "negative_prompt": job.negative_prompt, "subjects": encoded}
        numbers = self.numbers(job)
        arguments |= {"num_inference_steps": numbers.steps, "guidance_scale": numbers.guidance}
        return PipelineCall(
            pipe=pipe,
            arguments=arguments,
            numbers=numbers,
            colours=self._latent_colours,
            latents=lambda latents: latents[0],
            background=job.background_seed,
            source=source,
            references=_references(encoded),
            cutouts=_cutouts(encoded),
        )

    def start_batch(self, jobs: Sequence[Job], subjects: Sequence[Sequence[Subject | EncodedSubject]]) -> PipelineBatch:
        """See `base.Model.start_batch`."""
        first = jobs[0]
        pipe, arguments = self._pipe_for(first, None)
        encoded = [_encoded(pipe, own) for own in subjects]
        negative = None if first.negative_prompt is None else [job.negative_prompt for job in jobs]
        arguments |= {"prompt": [job.prompt for job in jobs], "negative_prompt": negative}
        numbers = self.numbers(first)
        arguments |= {"num_inference_steps": numbers.steps, "guidance_scale": numbers.guidance}
        return PipelineBatch(
            pipe=pipe,
            arguments=arguments | {"subjects": encoded if first.subjects else None},
            numbers=numbers,
            colours=self._latent_colours,
            references=[_references(own) for own in encoded],
            cutouts=[_cutouts(own) for own in encoded],
        )

    def _source(self, job: Job) -> SourcePicture:
        """The picture to draw over, at the size that is drawn."""
        assert job.image is not None
        source, limits = load_source(job.image, job.mask), self.limits
        width, height = drawing_size(source.image.size, limits.native_size**2, limits.size_multiple)
        width, height = job.width or width, job.height or height
        check_size(height, width, limits.size_multiple)
        return source.resized(width, height)

    def _pipe_for(self, job: Job, source: SourcePicture | None) -> tuple[Any, dict[str, Any]]:
        """The pipeline that a job needs, on the same weights, and what it takes of the picture to draw over."""
        if source is None:
            return self._offloading.on(self.pipe), {"width": job.width, "height": job.height}
        arguments = {"image": source.image, "strength": self.numbers(job).strength}
        if source.mask is None:
            return self._offloading.on(AnyStoryImg2ImgPipeline.from_pipe(self.pipe)), arguments
        arguments |= {"mask_image": source.mask, "width": source.image.width, "height": source.image.height}
        return self._offloading.on(AnyStoryInpaintPipeline.from_pipe(self.pipe)), arguments

    def _latent_colours(self) -> LatentColours:
        """What makes previews of this model's latents, found when first asked for."""
        if self._colours is None:
            self._colours = latent_colours(self.pipe.vae, torch.device(self.options.device))
        return self._colours


def _encoded(pipe: Any, subjects: Sequence[Subject | EncodedSubject]) -> list[Any]:
    return [pipe.encode_subjects([one])[0] if isinstance(one, Subject) else one for one in subjects]


def _references(encoded: Sequence[Any]) -> tuple[Image.Image, ...]:
    return tuple(encoding.prepared.image for encoding in encoded)


def _cutouts(encoded: Sequence[Any]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(photo.cutout for photo in encoding.photos) for encoding in encoded)


def _pipeline(options: ModelOptions) -> Any:
    """The pipeline on the CPU, as it lies on disk."""
    parts = {"adapter": options.adapter, "image_encoder": options.image_encoder}
    given: dict[str, Any] = {name: place for name, place in parts.items() if place is not None}
    given |= {
        "prediction_type": options.prediction_type,
        "zero_snr": options.zero_snr,
        "dtype": getattr(torch, options.dtype),
        "add_watermarker": False,
    }
    if options.is_single_file:
        return AnyStoryPipeline.from_single_file(options.model, config=options.config, **given)
    return AnyStoryPipeline.from_pretrained(options.model, variant=options.variant, **given)
