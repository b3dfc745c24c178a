"""What ComfyUI gives to its nodes: its device, folders, progress and interruption.

It comes from the modules that a running ComfyUI has loaded. Elsewhere nothing is shown, and nobody interrupts.
"""

from __future__ import annotations

import gc
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anystory.engine.events import StepDone

__all__ = ["StepBar", "default_device", "make_room", "output_folder", "temporary_folder", "wants_previews"]

_PREVIEW_SIDE = 512
"""Pixels of a preview's longer side."""


def _loaded(module: str) -> Any:
    """A module of ComfyUI; None where it does not run."""
    return sys.modules.get(module)


def default_device() -> str:
    """The device that ComfyUI draws on."""
    management = _loaded("comfy.model_management")
    return "cpu" if management is None else str(management.get_torch_device())


def make_room(device: str) -> None:
    """Let ComfyUI take its own models off a GPU that a model of ours is about to fill."""
    management = _loaded("comfy.model_management")
    if management is not None and device != "cpu":
        gc.collect()  # a model of ours that nobody holds any more
        management.unload_all_models()
        management.soft_empty_cache()


def temporary_folder() -> Path:
    """Where files lie until ComfyUI ends."""
    folders = _loaded("folder_paths")
    return Path(tempfile.gettempdir() if folders is None else folders.get_temp_directory()) / "anystory"


def output_folder() -> Path:
    """Where ComfyUI keeps pictures."""
    folders = _loaded("folder_paths")
    return Path("output" if folders is None else folders.get_output_directory()).absolute()


def wants_previews() -> bool:
    """Whether ComfyUI is set to show pictures while they are drawn."""
    arguments = _loaded("comfy.cli_args")
    return arguments is not None and arguments.args.preview_method is not arguments.LatentPreviewMethod.NoPreviews


class StepBar:
    """Shows a job's steps on the node, and ends the job when the user interrupts it."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, step: StepDone) -> None:
        """A step is done.

        Raises:
            Exception: ComfyUI's own, for an interruption.
        """
        management, utils = _loaded("comfy.model_management"), _loaded("comfy.utils")
        if management is not None:
            management.throw_exception_if_processing_interrupted()
        if utils is None:
            return
        total = step.pictures * step.steps
        if self._bar is None:
            self._bar = utils.ProgressBar(total)
        preview = None if step.preview is None else ("JPEG", step.preview.convert("RGB"), _PREVIEW_SIDE)
        self._bar.update_absolute((step.picture - 1) * step.steps + step.step, total, preview)
