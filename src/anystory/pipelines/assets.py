"""Where the models that ship inside the package lie."""

from __future__ import annotations

import os
from pathlib import Path

import anystory

__all__ = ["embedded_models", "resolve_model"]

_ASSETS = Path(anystory.__file__).parent / "assets"
_INDEX = "model_index.json"


def embedded_models() -> tuple[str, ...]:
    """Names of the embedded models: the folders of `anystory/assets` that hold a diffusers pipeline."""
    return tuple(sorted(index.parent.name for index in _ASSETS.glob(f"*/{_INDEX}")))


def resolve_model(name: str | os.PathLike[str]) -> str:
    """Turn the name of an embedded model into its folder; leave folders and hub ids as they are.

    `"mini"` always means the embedded model, `"./mini"` a folder in the current directory.

    Raises:
        ValueError: neither an embedded model, nor a folder, nor of the form `owner/name`.
    """
    name = os.fspath(name)
    if name in embedded_models():
        return str(_ASSETS / name)
    looks_like_hub_id = name.count("/") == 1 and name[0] not in "./~"
    if os.path.isdir(name) or looks_like_hub_id:
        return name
    raise ValueError(
        f"no model {name!r}: expected an embedded model {embedded_models()}, a folder that exists,"
        " or a hub id 'owner/name'"
    )
