"""A recipe's paths, made absolute: a run can be resumed from any working directory."""

from __future__ import annotations

import os

from anystory.pipelines.loading.assets import embedded_models
from anystory.training.recipe import Recipe

__all__ = ["with_absolute_paths"]


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe with absolute paths in place of those relative to the current directory.

    Hub ids and names of embedded models stay as they are: what is neither and exists here is a path.
    """
    base = recipe.base
    if base is not None:
        named = ("source", "config", "vae", "image_encoder")
        base = base.model_copy(update={name: _absolute(getattr(base, name)) for name in named})
    changes = {
        "base": base,
        "start": _absolute(recipe.start),
        "shards": tuple(os.path.abspath(folder) for folder in recipe.shards),
        "cache": None if recipe.cache is None else os.path.abspath(recipe.cache),
    }
    return recipe.model_copy(update=changes)


def _absolute(path: str | None) -> str | None:
    if path is None or path in embedded_models() or not os.path.exists(path):
        return path
    return os.path.abspath(path)
