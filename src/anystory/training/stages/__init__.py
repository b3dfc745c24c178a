"""The stages, by name, imported when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from anystory.training.data.samples import check_samples
from anystory.training.model.components import ModelFolder, check_components
from anystory.training.recipe import Recipe, StageName
from anystory.training.stages.common import read_options
from anystory.training.stages.stage import Stage

_CLASSES: dict[StageName, tuple[str, str]] = {
    "vae": ("vae", "AutoencoderStage"),
    "decoder": ("decoder", "DecoderStage"),
    "clip": ("clip", "ClipStage"),
    "base": ("base", "BaseStage"),
    "encoder": ("encoder", "EncoderStage"),
    "router": ("router", "RouterStage"),
}


def build_stage(name: StageName, folder: ModelFolder) -> Stage:
    """The stage `name` of the folder's recipe, on the weights that the folder holds so far.

    Raises:
        ValueError: a component that an earlier stage makes is missing, or an option is unknown, or one that this stage
            cannot do.
    """
    stage = _stage_class(name)(folder)
    if folder.recipe.stages[name].gradient_checkpointing:
        stage.recompute_blocks()
    return stage


def check_recipe(recipe: Recipe) -> None:
    """Find the mistakes of a recipe before hours are spent on its first stage.

    Raises:
        ValueError: sizes that no component can be built with, an option that a stage does not have, or no samples.
    """
    for name in recipe.stage_names:
        stage_options(recipe, name)
    check_samples(recipe)
    check_components(recipe)


def check_router(folder: ModelFolder) -> None:
    """Find out before earlier stages are trained that stage `router` would be refused.

    Raises:
        ValueError: its options do not go with the adapter that it will find.
    """
    from anystory.training.stages.router import check_coarse_weight

    check_coarse_weight(stage_options(folder.recipe, "router"), folder.adapter_sizes())


def stage_options(recipe: Recipe, name: StageName) -> Any:
    """A stage's own options (its class's `options_type`), checked.

    Raises:
        ValueError: names the option and what is wrong.
    """
    return read_options(_stage_class(name).options_type, recipe.stages[name].options, name)


def needs_masks(name: StageName) -> bool:
    """Whether a stage leaves out samples that do not say where their subject is."""
    return _stage_class(name).needs_masks


def _stage_class(name: StageName) -> type[Stage]:
    module, cls = _CLASSES[name]
    return getattr(import_module(f".{module}", __name__), cls)
