"""`anystory train mini`: the five stages in order, then the weights packed as they ship."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import nn

from .checkpoint import find_checkpoint
from .components import LOADERS, ModelFolder
from .loop import RunOptions, train
from .recipe import STAGES, Recipe, StageName
from .stages import build_stage

MAX_SHARD = "16MB"


def begin_with(source: Path, model: Path) -> None:
    """Copy a trained model's folder into a run's model folder, which must be new.

    Raises:
        ValueError: there is no such model, or the run already has one.
    """
    if model.exists():
        raise ValueError(f"{model} already holds a model: leave out --start to go on with it, or choose another --out")
    if not (source / "model_index.json").is_file():
        raise ValueError(f"{source} is not a model folder (it has no model_index.json)")
    shutil.copytree(source, model)


def run_stage(name: StageName, recipe: Recipe, options: RunOptions) -> None:
    """Train one stage into `options.out`; see `anystory.training.loop.train`."""
    folder = ModelFolder(options.model, recipe)
    options.model.mkdir(parents=True, exist_ok=True)
    train(build_stage(name, folder), recipe.stages[name], options)


def run_all(recipe: Recipe, options: RunOptions, minutes: dict[StageName, float]) -> None:
    """Train every stage in order, each with its own budget; a stage with a spent budget only exports again."""
    for name in STAGES:
        resume = options.resume and find_checkpoint(options.out / name) is not None
        run_stage(
            name,
            recipe,
            RunOptions(
                out=options.out,
                model=options.model,
                resume=resume,
                minutes=minutes.get(name),
                steps=options.steps,
                workers=options.workers,
                seed=options.seed,
                quiet=options.quiet,
            ),
        )


def pack(model: Path, target: Path, recipe: Recipe) -> int:
    """Write a model folder as it ships: half precision, shards of at most 16 MB. Returns its size in bytes.

    `target` is replaced only when the new folder is whole; files in it that are not components (the model card) stay.
    """
    source = ModelFolder(model, recipe)
    packed = ModelFolder(target, recipe)
    target.mkdir(parents=True, exist_ok=True)
    for component in LOADERS:
        if not source.has(component):
            continue
        value = source.load(component)
        fresh = target / f"{component}.tmp"
        shutil.rmtree(fresh, ignore_errors=True)
        if isinstance(value, nn.Module):
            value.to(torch.float16).save_pretrained(fresh, max_shard_size=MAX_SHARD)  # pyright: ignore
        else:
            value.save_pretrained(fresh)
        shutil.rmtree(target / component, ignore_errors=True)
        fresh.rename(target / component)
    packed.write_index()
    return sum(f.stat().st_size for f in target.rglob("*") if f.is_file())
