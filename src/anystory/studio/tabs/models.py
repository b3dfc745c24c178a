"""Models as the page shows them: what is here, what draws, what is missing and the command that gets it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from anystory.engine.backends.description import Description
from anystory.engine.drawing import checked_backend
from anystory.engine.inventory.describe import cached_models, describe, find
from anystory.engine.options import DEVICES, DTYPES, OFFLOADS, QUANTIZATIONS, ModelOptions
from anystory.pipelines.loading.assets import embedded_models
from anystory.studio.session import Session
from anystory.studio.told import FieldError, as_field
from anystory.subjects.onnx_models import ONNX_MODELS, model_folder

__all__ = ["ACTIONS"]

_FORM = ("model", "adapter", "device", "dtype", "quantize", "offload", "threads")
"""Options that the page offers."""

_EXTRAS = {"peft": "lora", "bitsandbytes": "quantize", "av": "video", "pillow_heif": "heif"}
"""{module: the extra that brings it}."""

_PUBLISHED = {
    "SDXL": "stabilityai/stable-diffusion-xl-base-1.0",
    "FLUX.1-dev": "black-forest-labs/FLUX.1-dev",
    "IP-Adapter": "h94/IP-Adapter",
}
"""What people draw with besides the embedded model, by its id on the hub."""


def shown(session: Session) -> dict[str, Any]:
    """All models of this machine, the options in use, and what else could be here."""
    options = session.options()
    return {
        "options": {name: getattr(options, name) for name in _FORM},
        "choices": {
            "device": [device for device in DEVICES if device == "cpu" or _has(device)],
            "dtype": list(DTYPES),
            "quantize": list(QUANTIZATIONS),
            "offload": list(OFFLOADS),
        },
        "models": [_model(name, "embedded") for name in embedded_models()]
        + [_model(name, "cached") for name in cached_models()],
        "memory": _memory(),
        "gpu": _gpu(),
        "missing": _missing(),
    }


@lru_cache(maxsize=64)
def _model(name: str, where: str) -> dict[str, Any]:
    """A model in the list; one that cannot be read says so."""
    try:
        found = describe(name)
    except (ValueError, OSError) as error:
        return {"name": name, "where": where, "kind": "", "bytes": 0, "fits": str(error), "draws": False}
    whole = found.backend is not None
    return {
        "name": name,
        "where": where,
        "kind": found.kind,
        "bytes": found.bytes,
        "fits": found.fits,
        "draws": whole,
    }


def choose(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """Draw with other options from now on.

    Raises:
        OptionError: one that cannot be, or that this machine does not have.
        FieldError: no such model or adapter.
        ValueError: a damaged one; its `field` says which.
    """
    given: dict[str, Any] = {}
    for name in _FORM:
        value = payload.get(name)
        value = value.strip() if isinstance(value, str) else value
        given[name] = value if value not in ("", None) else None
    given |= {name: given[name] or usual for name, usual in _usual(session).items()}
    options = ModelOptions(**given)
    with as_field("model"):
        found = _described("model", options.model)
        if not found.backend:
            raise FieldError("model", "draws_nothing", name=options.model, kind=found.kind)
        checked_backend(options)
    if options.adapter is not None:
        with as_field("adapter"):
            _described("adapter", options.adapter)
    session.state.options = given
    session.save()
    return shown(session)


def _described(field: str, name: str) -> Description:
    """What a model or an adapter on this machine is; nothing is asked of the hub.

    Raises:
        FieldError: nothing of that name is here.
        ValueError: it cannot be read.
    """
    try:
        find(name)
    except ValueError:
        if os.path.exists(name):
            raise
        raise FieldError(field, "not_here", name=name) from None
    return describe(name)


def _usual(session: Session) -> dict[str, Any]:
    """What stands for an empty field that cannot be empty."""
    usual = {entry.name: entry.default for entry in fields(ModelOptions)}
    return {"model": session.settings.options.model, **{name: usual[name] for name in ("device", "dtype", "offload")}}


def _missing() -> list[dict[str, str]]:
    """What is not here: a name of the page's texts, and the command that gets it."""
    found = [
        {"what": extra, "kind": "extra", "command": f"pip install 'anystory[{extra}]'"}
        for module, extra in _EXTRAS.items()
        if find_spec(module) is None
    ]
    here = " ".join(cached_models())
    found += [
        {"what": name, "kind": "model", "command": f"hf download {hub}"}
        for name, hub in _PUBLISHED.items()
        if hub not in here
    ]
    segmenters = [name for name, model in ONNX_MODELS.items() if not (model_folder() / model.file).is_file()]
    if len(segmenters) == len(ONNX_MODELS):
        found.append({"what": segmenters[0], "kind": "segmenter", "command": f"anystory models get {segmenters[0]}"})
    return found


def _memory() -> dict[str, int] | None:
    """Bytes of this machine's memory, and of what of it is free; None where the system does not say."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return {"whole": page * os.sysconf("SC_PHYS_PAGES"), "free": page * os.sysconf("SC_AVPHYS_PAGES")}
    except (ValueError, OSError, AttributeError):
        return None


def _has(device: str) -> bool:
    return device == "cuda" and _gpu() is not None


@lru_cache(maxsize=1)
def _gpu() -> str | None:
    """Name and memory of the first GPU, as its driver's tool tells them; None without one."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    asked = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return told.splitlines()[0] if told else None


ACTIONS: dict[str, Callable[[Session, dict[str, Any]], dict[str, Any]]] = {
    "models": lambda session, payload: shown(session),
    "models.choose": choose,
}
"""What the page may ask for."""
