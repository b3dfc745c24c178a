"""What the backends of FLUX.1 and FLUX.2 refuse alike. No torch is imported here."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from anystory.engine.errors import OptionError
from anystory.input_files import read_object

if TYPE_CHECKING:
    from anystory.engine.job import Job
    from anystory.engine.options import ModelOptions

__all__ = ["SIZE_MULTIPLE", "check_flow_options", "check_token_sizes", "holds_pipeline"]

SIZE_MULTIPLE = 16
"""Pixels of a token's side."""

_OF_SDXL = {
    "scheduler": "draws with its own flow-matching scheduler",
    "karras": "has noise levels of its own",
    "prediction_type": "predicts velocities, and nothing else",
    "zero_snr": "always begins with pure noise",
}
"""{option of SDXL's models: why it is none here}."""


def holds_pipeline(place: Path, names: Collection[str], transformer: str) -> bool:
    """Whether a folder has a pipeline by one of these names with that transformer; single files hold no pipeline."""
    if place.is_file():
        return False
    index = read_object(place / "model_index.json")
    found = index.get("transformer")
    known = isinstance(found, list) and found[-1:] == [transformer]
    return known and index.get("_class_name") in names


def check_flow_options(options: ModelOptions, family: str) -> None:
    """Raise OptionError for options that only SDXL's models have.

    Args:
        options: The model's.
        family: What messages call it: "FLUX.1".
    """
    for option, why in _OF_SDXL.items():
        if getattr(options, option) is not None:
            raise OptionError(option, f"is for SDXL's models: {family} {why}")


def check_token_sizes(job: Job) -> None:
    """Raise OptionError for a side that is no whole number of tokens."""
    for name, side in (("width", job.width), ("height", job.height)):
        if side is not None and side % SIZE_MULTIPLE:
            lower = max(side // SIZE_MULTIPLE, 1) * SIZE_MULTIPLE
            near = f"{lower} or {lower + SIZE_MULTIPLE} would do"
            raise OptionError(name, f"must be a multiple of {SIZE_MULTIPLE} pixels, got {side}: {near}")
