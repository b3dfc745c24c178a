"""The backend of SDXL, its fine-tunes and the embedded mini, which is of the same kind. No torch is imported here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anystory.engine.backends.klein_job import refuse_reading
from anystory.engine.errors import OptionError
from anystory.input_files import read_object
from anystory.pipelines.loading.bases import EXPECTED, UNET_BY_ITSELF, kind_of_keys
from anystory.pipelines.loading.headers import read_headers

if TYPE_CHECKING:
    from anystory.engine.backends.base import Model
    from anystory.engine.backends.description import Description
    from anystory.engine.job import Job
    from anystory.engine.options import ModelOptions

__all__ = ["SdxlBackend"]

_SIDE = 8
"""Pixels: diffusers' own rule, and what SDXL's autoencoder makes of one latent."""


class SdxlBackend:
    """See `base.Backend`."""

    name = "sdxl"
    title = EXPECTED.removeprefix("expected ")
    modules: Sequence[str] = (
        "anystory.pipelines.sdxl",
        "anystory.engine.backends.sdxl_model",
        "anystory.engine.backends.schedulers",
        "accelerate.hooks",
    )

    has_background = True
    has_router = True
    draws_batches = True

    def draws(self, place: Path) -> bool:
        """A pipeline with a U-Net and SDXL's second text encoder, or a file with SDXL's keys, whole or in part."""
        if place.is_file():
            return kind_of_keys(read_headers([place])) in ("SDXL", UNET_BY_ITSELF)
        index = read_object(place / "model_index.json")
        return _class_of(index, "unet") == "UNet2DConditionModel" and _class_of(index, "text_encoder_2") is not None

    def size_multiple(self, place: Path) -> int:
        """Of diffusers' rule, and of the autoencoder's."""
        config = place / "vae" / "config.json"
        channels = read_object(config).get("block_out_channels") if config.is_file() else None
        return math.lcm(_SIDE, 2 ** (len(channels) - 1)) if isinstance(channels, list) and channels else _SIDE

    def describe(self, source: str, place: Path) -> Description | None:
        """Pipelines, adapters, single files in the original layout, U-Nets by themselves, and IP-Adapter-Plus."""
        from anystory.engine.backends.sdxl_description import describe

        return describe(source, place, self)

    def check(self, options: ModelOptions) -> None:
        """See `base.Backend.check`: a scheduler that is not there or has no Karras' noise levels, bitsandbytes."""
        if options.quantize not in (None, "fp8"):
            raise OptionError(
                "quantize",
                f"{options.quantize} is for FLUX.1: SDXL's layers with subjects read their weights as numbers, which"
                " bitsandbytes packs; take fp8",
            )
        if options.scheduler is not None:
            from anystory.engine.backends.schedulers import check_scheduler

            check_scheduler(options.scheduler, options.karras)

    def check_job(self, job: Job) -> None:
        """See `base.Backend.check_job`: true CFG, and how references are read."""
        refuse_reading(job)
        if job.true_cfg is not None:
            raise OptionError("true_cfg", "is for FLUX.1: on SDXL's models the guidance weighs the negative prompt")

    def load(self, options: ModelOptions) -> Model:
        """See `base.Backend.load`."""
        from anystory.engine.backends.sdxl_model import SdxlModel

        return SdxlModel(options)


def _class_of(index: dict[str, Any], component: str) -> str | None:
    """The class of a pipeline's component, or None."""
    entry = index.get(component)
    return entry[1] if isinstance(entry, list) and len(entry) == 2 else None
