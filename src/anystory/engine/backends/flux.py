"""The backend of FLUX.1 and its fine-tunes in diffusers' layout. No torch is imported here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anystory.engine.backends.flow_matching import SIZE_MULTIPLE, check_flow_options, holds_pipeline
from anystory.engine.backends.flux_job import check_flux_job

if TYPE_CHECKING:
    from anystory.engine.backends.base import Model
    from anystory.engine.backends.description import Description
    from anystory.engine.job import Job
    from anystory.engine.options import ModelOptions

__all__ = ["FluxBackend"]

_PIPELINES = ("FluxPipeline", "AnyStoryFluxPipeline")
"""Others have FLUX's transformer, too, but it reads more than noise (Fill, Control), or a picture (Kontext)."""


class FluxBackend:
    """See `base.Backend`."""

    name = "flux"
    title = "FLUX.1 or a fine-tune of it in diffusers' layout"
    modules: Sequence[str] = (
        "anystory.pipelines.flux",
        "anystory.engine.backends.flux_model",
        "accelerate.hooks",
    )

    has_background = False
    has_router = True
    draws_batches = False

    def draws(self, place: Path) -> bool:
        """A pipeline from text to image with FLUX.1's transformer; single files hold a transformer only."""
        return holds_pipeline(place, _PIPELINES, "FluxTransformer2DModel")

    def size_multiple(self, place: Path) -> int:
        """A token's."""
        return SIZE_MULTIPLE

    def describe(self, source: str, place: Path) -> Description | None:
        """Pipelines, transformers by themselves, and adapters."""
        from anystory.engine.backends.flux_description import describe

        return describe(source, place, self)

    def check(self, options: ModelOptions) -> None:
        """See `base.Backend.check`: what only SDXL's models have."""
        check_flow_options(options, "FLUX.1")

    def check_job(self, job: Job) -> None:
        """See `base.Backend.check_job`."""
        check_flux_job(job)

    def load(self, options: ModelOptions) -> Model:
        """See `base.Backend.load`."""
        from anystory.engine.backends.flux_model import FluxModel

        return FluxModel(options)
