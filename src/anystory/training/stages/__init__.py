"""The five stages, by name, imported when asked for."""

from __future__ import annotations

from importlib import import_module

from ..components import ModelFolder
from ..loop import Stage
from ..recipe import StageName

_CLASSES: dict[StageName, tuple[str, str]] = {
    "vae": ("vae", "AutoencoderStage"),
    "clip": ("clip", "ClipStage"),
    "base": ("base", "BaseStage"),
    "encoder": ("encoder", "EncoderStage"),
    "router": ("router", "RouterStage"),
}


def build_stage(name: StageName, folder: ModelFolder) -> Stage:
    """The stage `name` of the folder's recipe, on the weights that the folder holds so far.

    Raises:
        ValueError: a component that an earlier stage makes is missing, or an option is unknown.
    """
    module, cls = _CLASSES[name]
    return getattr(import_module(f".{module}", __name__), cls)(folder)
