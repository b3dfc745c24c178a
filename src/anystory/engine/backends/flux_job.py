"""What FLUX.1 does not draw, told before it is loaded. No torch is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anystory.engine.backends.flow_matching import check_token_sizes
from anystory.engine.backends.klein_job import refuse_reading
from anystory.engine.errors import OptionError

if TYPE_CHECKING:
    from anystory.engine.job import Job

__all__ = ["check_flux_job"]


def check_flux_job(job: Job) -> None:
    """Raise OptionError for what FLUX.1 does not draw."""
    if job.image is not None:
        raise OptionError("image", "is for SDXL's models: AnyStory for FLUX.1 begins with noise, not with a picture")
    if job.negative_prompt is not None and job.true_cfg is None:
        raise OptionError(
            "negative_prompt",
            "needs true CFG on FLUX.1: give that a value above 1, such as 3, and each step runs twice; or leave both"
            " out",
        )
    if job.background_seed is not None:
        raise OptionError(
            "background_seed",
            "is for SDXL's models: AnyStory for FLUX.1 gives every pixel to a subject, so none is background",
        )
    for subject in job.subjects:
        if subject.more:
            raise OptionError(
                "subject",
                f"{subject.name or subject.image} has {len(subject.photos)} photos, and AnyStory for FLUX.1 reads one:"
                " choose one",
            )
    refuse_reading(job)
    check_token_sizes(job)
