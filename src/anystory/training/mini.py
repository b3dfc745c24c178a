"""`anystory train`: one stage or the five in order, and the weights packed as they ship."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from anystory.files import atomic_folder, atomic_write

from .caching import check_cache
from .checkpoints import find_checkpoint
from .components import LOADERS, ModelFolder, forget_place
from .devices import make_accelerator
from .exports import stale_stages
from .loop import train
from .options import RunOptions, finished_at
from .recipe import PERSONAL_STAGES, Recipe, StageName
from .sharding import is_sharded
from .stages import build_stage, check_recipe
from .stopping import StopRequest

MAX_SHARD = "16MB"
MAX_BYTES = 48 * 2**20
"""What the package has room for, all weights of a model together."""


def check_start(source: Path, model: Path) -> None:
    """Raises ValueError where `begin_with` could not do its work: there is no such model, or the run has one."""
    if (model / "model_index.json").exists():
        raise ValueError(f"{model} already holds a model: leave out --start to go on with it, or choose another --out")
    if not (source / "model_index.json").is_file():
        raise ValueError(f"{source} is not a model folder (it has no model_index.json)")


def begin_with(source: Path, model: Path) -> None:
    """Copy a trained model's folder into a run's model folder, which must be new.

    Raises:
        ValueError: see `check_start`.
    """
    check_start(source, model)
    with atomic_folder(model) as fresh:
        shutil.copytree(source, fresh, dirs_exist_ok=True)


def check_run(names: tuple[StageName, ...], recipe: Recipe, options: RunOptions) -> None:
    """Find what is wrong with a run before it changes anything.

    Raises:
        ValueError: a mistake in the recipe, a cache that does not go with it, or a checkpoint in the way.
    """
    check_recipe(recipe)
    check_cache(recipe, names, prerender=options.prerender is not None)
    found = [name for name in names if find_checkpoint(options.out / name)]
    if found and not options.resume:
        there = f"{options.out} already holds checkpoints of {', '.join(found)}"
        raise ValueError(f"{there}: continue with --resume or choose another --out")
    if options.resume and not found and not options.quiet:
        print(f"note: {options.out} holds no checkpoint of {', '.join(names)} yet: starting anew", file=sys.stderr)


def run_stages(
    names: tuple[StageName, ...],
    recipe: Recipe,
    options: RunOptions,
    minutes: dict[StageName, float],
    accelerator: Accelerator | None = None,
) -> None:
    """Train stages in order, each with its own budget of `minutes` where it is named there, else the recipe's.

    Raises:
        ValueError: before anything is trained, see `check_run`; see also `anystory.training.loop.train`.
    """
    check_run(names, recipe, options)
    accelerator = accelerator or make_accelerator()
    whole = [name for name in names if name not in PERSONAL_STAGES]
    if whole and is_sharded(accelerator):
        raise ValueError(
            f"FSDP2 cuts what {' and '.join(PERSONAL_STAGES)} train, not {', '.join(whole)}: take "
            "configs/accelerate/ddp.yaml"
        )
    folder = ModelFolder(options.model, recipe, writes=accelerator.is_main_process)
    with StopRequest() as stop:
        for name in names:
            own = replace(options, minutes=minutes.get(name))
            finished = finished_at(name, recipe.stages[name], own) if options.resume else None
            if finished is None:
                train(build_stage(name, folder), recipe.stages[name], own, accelerator, stop)
            elif not options.quiet:
                print(f"[{name}] finished at step {finished.step}", file=sys.stderr, flush=True)
    stale = stale_stages(options.model)
    if stale and not options.quiet:
        print(f"note: {', '.join(stale)} learned on weights that have changed since: train on", file=sys.stderr)


def pack(model: Path, target: Path, recipe: Recipe) -> int:
    """Write a model folder as it ships: half precision, shards of at most 16 MB. Returns its size in bytes.

    `target` is replaced only when the new folder is whole; a model card in it (README.md) stays.

    Raises:
        ValueError: a component is missing, the target is the model itself, or the weights are over `MAX_BYTES`.
    """
    if model.resolve() == target.resolve():
        raise ValueError(f"--pack-to must not be the run's own model folder {model}: it would lose its precision")
    source = ModelFolder(model, recipe)
    components = {name: forget_place(source.load(name)) for name in LOADERS}
    card = target / "README.md"
    kept = card.read_bytes() if card.is_file() else None
    with atomic_folder(target) as fresh:
        for name, value in components.items():
            if isinstance(value, nn.Module):
                value.to(torch.float16).save_pretrained(fresh / name, max_shard_size=MAX_SHARD)  # pyright: ignore
            else:
                value.save_pretrained(fresh / name)
        ModelFolder(fresh, recipe).write_index()
        size = sum(file.stat().st_size for file in fresh.rglob("*") if file.is_file())
        if size > MAX_BYTES:
            raise ValueError(f"the packed model has {size / 2**20:.1f} MiB; {MAX_BYTES / 2**20:.0f} MiB is the limit")
        if kept is not None:
            with atomic_write(fresh / card.name) as temporary:
                temporary.write_bytes(kept)
    return size
