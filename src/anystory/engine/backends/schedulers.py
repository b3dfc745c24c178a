"""Schedulers by name: what the options `scheduler` and `karras` may choose."""

from __future__ import annotations

import inspect
from importlib.util import find_spec
from typing import Any

from anystory.engine.errors import OptionError

__all__ = ["check_scheduler", "scheduler_names"]

_FEW_STEPS = ("LCMScheduler", "TCDScheduler")
"""What few-step LoRAs are made for; diffusers does not list them."""

_LEFT_OUT = {"EDMEulerScheduler", "DPMSolverSDEScheduler"}
"""The first is for models that were trained with other noise; the second takes its noise from no seed of ours, so that
a record could not draw its picture again."""


def scheduler_names() -> tuple[str, ...]:
    """diffusers' schedulers for SDXL, and those of few-step LoRAs."""
    from diffusers.schedulers import KarrasDiffusionSchedulers

    return tuple(sorted({*KarrasDiffusionSchedulers.__members__, *_FEW_STEPS} - _LEFT_OUT))


def check_scheduler(name: str, karras: bool | None = None) -> None:
    """Refuse a scheduler that cannot be used.

    Raises:
        OptionError: no such scheduler, one that needs a package that is not installed, or that knows no Karras.
    """
    if name not in scheduler_names():
        raise OptionError("scheduler", f"must be one of {', '.join(scheduler_names())}; got {name!r}")
    kind = _class(name)
    # In the place of a class whose packages are missing diffusers has a stand-in that lists them.
    if missing := [package for package in getattr(kind, "_backends", ()) if find_spec(package) is None]:
        raise OptionError("scheduler", f"{name} needs {', '.join(missing)}: pip install {' '.join(missing)}")
    if karras is not None:
        _check_karras(kind)


def _class(name: str) -> Any:
    from anystory.pipelines.schedulers import scheduler_class

    return scheduler_class(name)


def _check_karras(kind: Any) -> None:
    if "use_karras_sigmas" not in inspect.signature(kind.__init__).parameters:
        able = [name for name in scheduler_names() if "use_karras_sigmas" in inspect.signature(_class(name)).parameters]
        raise OptionError(
            "karras", f"is not possible: {kind.__name__} has no such noise levels; these have: {', '.join(able)}"
        )
