"""The backend of FLUX.2 klein and its fine-tunes in diffusers' layout. No torch is imported here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anystory.engine.backends.flow_matching import SIZE_MULTIPLE, check_flow_options, holds_pipeline
from anystory.engine.backends.klein_job import check_klein_job
from anystory.engine.errors import OptionError

if TYPE_CHECKING:
    from anystory.engine.backends.base import Model
    from anystory.engine.backends.description import Description
    from anystory.engine.job import Job
    from anystory.engine.options import ModelOptions

__all__ = ["KleinBackend"]

_PIPELINES = (
    "Flux2KleinPipeline",
    "Flux2KleinInpaintPipeline",
    "AnyStoryFlux2KleinPipeline",
    "AnyStoryFlux2KleinInpaintPipeline",
)
"""Flux2KleinKVPipeline has the same parts, but its weights were trained for references at a time step of their own."""


class KleinBackend:
    """See `base.Backend`."""

    name = "klein"
    title = "FLUX.2 klein or a fine-tune of it in diffusers' layout"
    modules: Sequence[str] = (
        "anystory.pipelines.klein",
        "anystory.engine.backends.klein_model",
        "accelerate.hooks",
    )

    has_background = False
    has_router = False
    draws_batches = False

    def draws(self, place: Path) -> bool:
        """A pipeline by one of klein's names with FLUX.2's transformer; single files hold a transformer only."""
        return holds_pipeline(place, _PIPELINES, "Flux2Transformer2DModel")

    def size_multiple(self, place: Path) -> int:
        """A token's."""
        return SIZE_MULTIPLE

    def describe(self, source: str, place: Path) -> Description | None:
        """Pipelines, and transformers by themselves."""
        from anystory.engine.backends.klein_description import describe

        return describe(source, place, self)

    def check(self, options: ModelOptions) -> None:
        """See `base.Backend.check`: what SDXL's models have, and adapters."""
        check_flow_options(options, "FLUX.2 klein")
        for option in ("adapter", "image_encoder"):
            if getattr(options, option) is not None:
                raise OptionError(option, "is for other models: FLUX.2 klein draws subjects as it is")

    def check_job(self, job: Job) -> None:
        """See `base.Backend.check_job`."""
        check_klein_job(job)

    def load(self, options: ModelOptions) -> Model:
        """See `base.Backend.load`."""
        from anystory.engine.backends.klein_model import KleinModel

        return KleinModel(options)
