"""What FLUX.2 klein does not draw, told before it is loaded. No torch is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anystory.engine.backends.flow_matching import check_token_sizes
from anystory.engine.errors import OptionError

if TYPE_CHECKING:
    from anystory.engine.job import Job

__all__ = ["MOST_REFERENCES", "check_klein_job", "refuse_reading"]

MOST_REFERENCES = 4
"""Pictures that the model was made for."""

_READING = ("isolation", "text_gate", "routing")
"""What a job says of how references are read, which is FLUX.2 klein's alone."""


def refuse_reading(job: Job) -> None:
    """Raise OptionError if a job for another model says how references are read."""
    for name in _READING:
        if getattr(job, name) is not None:
            raise OptionError(name, "is for FLUX.2 klein: other models have an adapter that decides what is read")


def check_klein_job(job: Job) -> None:
    """Raise OptionError for what FLUX.2 klein does not draw."""
    if job.negative_prompt is not None:
        raise OptionError("negative_prompt", "is not for FLUX.2 klein: say in the prompt what you want instead")
    if job.background_seed is not None:
        raise OptionError("background_seed", "is for SDXL's models: FLUX.2 klein has no background of its own")
    for name in _READING:
        if getattr(job, name) not in (None, "none") and not job.subjects:
            raise OptionError(name, "is about subjects, and there are none: leave it out")
    for subject in job.subjects:
        for name in ("scale", "scale_start", "scale_end"):
            if subject.settings.get(name) not in (None, 0.0 if name == "scale_start" else 1.0):
                raise OptionError(name, "weighs CLIP tokens, and FLUX.2 klein has none: take reference-scale")
    check_token_sizes(job)
