"""Where a recipe's parts lie, said so that it holds in every working directory."""

from __future__ import annotations

import os

from anystory.pipelines.assets import embedded_models

from .recipe import Recipe

__all__ = ["with_absolute_places"]


def with_absolute_places(recipe: Recipe) -> Recipe:
    """The recipe with absolute paths in place of those relative to the current directory.

    Hub ids and names of embedded models stay: what is none of them and exists here is a path.
    """
    base = recipe.base
    if base is not None:
        named = ("source", "config", "vae", "image_encoder")
        base = base.model_copy(update={name: _named(getattr(base, name)) for name in named})
    changes = {
        "base": base,
        "start": _named(recipe.start),
        "shards": tuple(os.path.abspath(folder) for folder in recipe.shards),
        "cache": None if recipe.cache is None else os.path.abspath(recipe.cache),
    }
    return recipe.model_copy(update=changes)


def _named(place: str | None) -> str | None:
    if place is None or place in embedded_models() or not os.path.exists(place):
        return place
    return os.path.abspath(place)
