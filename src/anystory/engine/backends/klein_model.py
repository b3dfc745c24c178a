"""A loaded FLUX.2 klein."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import torch
from diffusers import Flux2KleinPipeline
from PIL import Image
from torch import Tensor

from anystory.engine.backends.base import Limits, Numbers
from anystory.engine.backends.klein_job import MOST_REFERENCES, check_klein_job
from anystory.engine.backends.loras import add_loras
from anystory.engine.backends.pipeline_call import PipelineCall
from anystory.engine.backends.pipeline_files import Offloading, tile, weight_places
from anystory.engine.backends.previews import ColourMap
from anystory.engine.background import in_background
from anystory.engine.errors import OptionError
from anystory.engine.job import Job
from anystory.engine.options import ModelOptions
from anystory.engine.record.provenance import weight_hashes
from anystory.engine.source import STRENGTH, SourcePicture, drawing_size, load_source
from anystory.engine.vocabulary import UnknownWord, unknown_words
from anystory.pipelines.inputs import EncodedSubject, check_size
from anystory.pipelines.klein import AnyStoryFlux2KleinInpaintPipeline, AnyStoryFlux2KleinPipeline, AttentionRouting
from anystory.pipelines.loading.quantizing import quantization_config, store_in_fp8
from anystory.subjects import Subject

__all__ = ["KleinModel"]

_FEW_STEPS = 4
"""What the distilled models were distilled to."""
_QUANTISED = ("transformer", "text_encoder")


class KleinModel:
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
        add_loras(self.pipe, options.loras)
        if options.quantize == "fp8":  # after the LoRAs, which stay as they are
            store_in_fp8([getattr(self.pipe, part) for part in _QUANTISED], getattr(torch, options.dtype))
        tiling = tile(self.pipe.vae, options.tiling, offloading=options.offload != "none")
        self.options = replace(options, tiling=tiling)
        self.limits = Limits(
            size_multiple=self.pipe.size_multiple,
            native_size=self.pipe.default_sample_size * self.pipe.vae_scale_factor,
            max_subjects=MOST_REFERENCES,
        )
        self._colours: ColourMap | None = None
        self._offloading = Offloading(options)
        if options.offload == "none":
            self.pipe.to(options.device)
        self.pipe.set_progress_bar_config(disable=True)
        self._hashes = in_background(partial(weight_hashes, weight_places(self.pipe, options, None)))

    @property
    def weights(self) -> dict[str, str]:
        """See `base.Model.weights`."""
        return self._hashes.result()

    def unknown_words(self, prompt: str) -> list[UnknownWord]:
        """See `base.Model.unknown_words`."""
        return unknown_words(prompt, (self.pipe.tokenizer,))

    def numbers(self, job: Job) -> Numbers:
        """See `base.Model.numbers`: the model's value, diffusers', or of a distilled model 4 steps without guidance."""
        own, standard = (
            self.pipe.defaults(bool(job.subjects)),
            inspect.signature(Flux2KleinPipeline.__call__).parameters,
        )
        steps = _FEW_STEPS if self._is_distilled else standard["num_inference_steps"].default
        guidance = 1.0 if self._is_distilled else standard["guidance_scale"].default
        usual = None if job.image is None else STRENGTH["image" if job.mask is None else "mask"]
        return Numbers(
            steps=job.steps or own.get("num_inference_steps", steps),
            guidance=own.get("guidance_scale", guidance) if job.guidance is None else job.guidance,
            strength=usual if job.strength is None else job.strength,
        )

    def encode(self, subject: Subject) -> EncodedSubject:
        """See `base.Model.encode`."""
        [encoded] = self._offloading.on(self.pipe).encode_subjects([subject])
        return encoded

    def start(self, job: Job, subjects: Sequence[Subject | EncodedSubject]) -> PipelineCall:
        """See `base.Model.start`."""
        check_klein_job(job)
        if self._is_distilled and job.guidance is not None and job.guidance != 1:
            raise OptionError("guidance", "has no effect on this model, which is distilled: leave it out")
        source = None if job.image is None else self._source(job)
        pipe, arguments, size = self._pipe_for(job, source)
        encoded: list[Any] = [pipe.encode_subjects([one])[0] if isinstance(one, Subject) else one for one in subjects]
        numbers = self.numbers(job)
        arguments |= {
            "prompt": job.prompt,
            "subjects": encoded,
            "num_inference_steps": numbers.steps,
            "guidance_scale": numbers.guidance,
            "isolation": job.isolation or "on",
            "text_gate": job.text_gate or "none",
            "routing": AttentionRouting() if job.routing == "attention" else None,
        }
        return PipelineCall(
            pipe=pipe,
            arguments=arguments,
            numbers=numbers,
            colours=self._latent_colours,
            latents=partial(_plain_latents, pipe, size),
            source=source,
            references=tuple(_side_by_side([one.image for one in encoding.prepared]) for encoding in encoded),
            cutouts=tuple(tuple(one.cutout for one in encoding.prepared) for encoding in encoded),
        )

    def start_batch(self, jobs: Sequence[Job], subjects: Sequence[Sequence[Subject | EncodedSubject]]) -> NoReturn:
        """See `base.Model.start_batch`."""
        raise ValueError(f"FLUX.2 klein draws one picture in a call here, got {len(jobs)} jobs: draw one by one")

    def segment(self, image: Any, subjects: Sequence[Subject | EncodedSubject], **settings: Any) -> NoReturn:
        """See `base.Model.segment`."""
        raise ValueError("FLUX.2 klein has no router that could find subjects in a picture: take mini, SDXL or FLUX.1")

    @property
    def _is_distilled(self) -> bool:
        """Whether the model was distilled to a few steps, and takes no guidance."""
        return bool(self.pipe.config["is_distilled"])

    def _source(self, job: Job) -> SourcePicture:
        """The picture to draw over, at the size that is drawn, white in its mask where it has none."""
        assert job.image is not None
        source, multiple = load_source(job.image, job.mask), self.limits.size_multiple
        most = self.limits.native_size**2
        width, height = drawing_size(source.image.size, most, multiple)
        while width * height > most:  # by rounding; diffusers would shrink it by other rules
            width, height = width - multiple * (width >= height), height - multiple * (width < height)
        width, height = job.width or width, job.height or height
        check_size(height, width, multiple)
        if width * height > most:
            raise OptionError("size", f"{width}×{height} is more than {most:,} pixels, the most that is drawn over")
        return source.resized(width, height)

    def _pipe_for(self, job: Job, source: SourcePicture | None) -> tuple[Any, dict[str, Any], tuple[int, int]]:
        """The pipeline that a job needs, what it takes of the picture to draw over, and (H, W) of what is drawn."""
        if source is None:
            own, native = self.pipe.defaults(bool(job.subjects)), self.limits.native_size
            height, width = job.height or own.get("height", native), job.width or own.get("width", native)
            return self._offloading.on(self.pipe), {"height": height, "width": width}, (height, width)
        mask = Image.new("L", source.image.size, 255) if source.mask is None else source.mask
        arguments = {"image": source.image, "mask_image": mask, "strength": self.numbers(job).strength}
        pipe = self._offloading.on(AnyStoryFlux2KleinInpaintPipeline.from_pipe(self.pipe))
        pipe.set_progress_bar_config(disable=True)
        return pipe, arguments, (source.image.height, source.image.width)

    def _latent_colours(self) -> ColourMap:
        """The colours of the VAE's own latents, found when first asked for."""
        if self._colours is None:
            self._colours = ColourMap.fitted(self.pipe.vae, torch.device(self.options.device), _encode)
        return self._colours


def _pipeline(options: ModelOptions) -> Any:
    """The pipeline as it lies on disk, in fewer bits where bitsandbytes does that while it loads."""
    dtype = getattr(torch, options.dtype)
    given: dict[str, Any] = {}
    if options.quantize in ("nf4", "int8"):
        given["quantization_config"] = quantization_config(options.quantize, _QUANTISED, dtype)
    return AnyStoryFlux2KleinPipeline.from_pretrained(options.model, variant=options.variant, dtype=dtype, **given)


def _encode(vae: Any, pixels: Tensor) -> Tensor:
    """Latents (1, c, h, w) of the VAE itself, before they are packed and normalised."""
    return vae.encode(pixels.to(vae.dtype)).latent_dist.mode()


def _plain_latents(pipe: Any, size: tuple[int, int], packed: Tensor) -> Tensor:
    """(c, h, w) of the VAE itself from what a step leaves, (1, S, 4c), of a picture of (H, W) pixels."""
    rows, columns = (side // pipe.size_multiple for side in size)
    grid = packed[:1].transpose(1, 2).unflatten(2, (rows, columns))
    statistics = pipe.vae.bn
    mean, variance = (x.view(1, -1, 1, 1).to(grid) for x in (statistics.running_mean, statistics.running_var))
    plain = grid * (variance + pipe.vae.config.batch_norm_eps).sqrt() + mean
    return pipe._unpatchify_latents(plain)[0]


def _side_by_side(photos: Sequence[Image.Image]) -> Image.Image:
    """All photos of a subject in one picture, for its routing sheet."""
    joined = Image.new("RGB", (sum(one.width for one in photos), photos[0].height))
    for i, one in enumerate(photos):
        joined.paste(one, (i * one.width, 0))
    return joined
