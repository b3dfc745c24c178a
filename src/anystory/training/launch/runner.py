"""One `anystory train` command from its first file to its last: what `run` starts and `resume` resumes."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator

from anystory.files import atomic_folder, only_writer
from anystory.models.saved.checksums import SUMS
from anystory.pipelines.schedulers import rescheduled
from anystory.training.data.caching import check_cache
from anystory.training.launch.devices import can_compile, make_accelerator
from anystory.training.launch.options import RunOptions, finished_at
from anystory.training.launch.run_file import RunFile, check_place
from anystory.training.launch.stopping import StopRequest
from anystory.training.model.components import ModelFolder
from anystory.training.model.exports import stale_stages
from anystory.training.model.packing import check_pack, pack
from anystory.training.recipe import PERSONAL_STAGES, Recipe, StageName
from anystory.training.stages import build_stage, check_recipe, check_router
from anystory.training.state.checkpoints import find_checkpoint
from anystory.training.state.sharding import is_sharded
from anystory.training.trainer import train


def launch(run: RunFile, out: Path, *, resume: bool, quiet: bool = False) -> int | None:
    """Train the run's stages in folder `out`; returns the packed model's size in bytes if it is to be packed.

    `run.json` is written when the first stage has read all it begins with, its checkpoint included, and before it
    trains. What is refused until then leaves the folder as it was.

    Raises:
        ValueError: a mistake in what was asked for, or another program trains in `out`; nothing has been changed then.
        RunFailed, KeyboardInterrupt: see `anystory.training.trainer.train`.
    """
    options = run.run_options(out, resume=resume, quiet=quiet)
    if run.threads:
        torch.set_num_threads(run.threads)
    check_place(out, resume=resume)
    resumed = resume and (options.model / "model_index.json").exists()
    start = None if run.start is None or resumed else Path(run.start)
    if start is not None:
        _check_start(start, options.model)
    if run.pack_to is not None:
        check_pack(options.model, run.pack_to)
    check_run(run.stages, run.recipe, options)
    accelerator = make_accelerator()
    is_main_process = accelerator.is_main_process
    with only_writer(out) if is_main_process else nullcontext():
        begun = False

        def begin() -> None:
            nonlocal begun
            if is_main_process and not begun:
                run.write(out)
            begun = True

        if is_main_process and start is not None:
            _copy_start(start, options.model, run.recipe)
        try:
            accelerator.wait_for_everyone()
            _train_stages(run.stages, run.recipe, options, run.minutes, accelerator, begin)
        except BaseException:
            if is_main_process and start is not None and not begun:
                shutil.rmtree(options.model, ignore_errors=True)
            raise
        if run.pack_to is None or not is_main_process:
            return None
        return pack(options.model, run.pack_to, run.recipe)


def _check_start(source: Path, model: Path) -> None:
    """Raises ValueError if there is no model to start with, or the run has one already."""
    if (model / "model_index.json").exists():
        raise ValueError(f"{model} already holds a model: leave out --start to use it, or choose another --out")
    if not (source / "model_index.json").is_file():
        raise ValueError(f"{source} is not a model folder (it has no model_index.json)")


def _copy_start(source: Path, model: Path, recipe: Recipe) -> None:
    """Copy a trained model's folder into a run's model folder, which must be new. It gets the recipe's sampler.

    Raises:
        ValueError: the model's noise is none that the sampler can have.
    """
    with atomic_folder(model) as fresh:
        shutil.copytree(source, fresh, dirs_exist_ok=True)
        (fresh / SUMS).unlink(missing_ok=True)  # training makes it another model
        if recipe.sampler is not None:
            folder = ModelFolder(fresh, recipe)
            folder.save("scheduler", rescheduled(folder.load("scheduler"), recipe.sampler))


def check_run(names: tuple[StageName, ...], recipe: Recipe, options: RunOptions) -> None:
    """Find what is wrong with a run before it changes anything.

    Raises:
        ValueError: a mistake in the recipe or the options, a cache that does not go with it, or a checkpoint in the
            way.
    """
    unknown = [name for name in names if name not in recipe.stages]
    if unknown:
        raise ValueError(f"recipe {recipe.name!r} has no stage {', '.join(unknown)}: it has {', '.join(recipe.stages)}")
    if options.compile and not can_compile():
        raise ValueError("--compile needs torch 2.6 or newer")
    check_recipe(recipe)
    check_cache(recipe, names, prerender=options.prerender is not None)
    found = [name for name in names if find_checkpoint(options.out / name)]
    if found and not options.resume:
        there = f"{options.out} already holds checkpoints of {', '.join(found)}"
        raise ValueError(f"{there}: resume them with --resume, or choose another --out")
    if options.resume and not found and not options.quiet:
        print(f"note: {options.out} holds no checkpoint of {', '.join(names)} yet: starting anew", file=sys.stderr)


def run_stages(
    names: tuple[StageName, ...], recipe: Recipe, options: RunOptions, minutes: dict[StageName, float]
) -> None:
    """Train stages in order, each with its own budget of `minutes` if it is named there, else the recipe's.

    Raises:
        ValueError: before anything is trained, see `check_run` and `check_router`; see also
            `anystory.training.trainer.train`.
    """
    check_run(names, recipe, options)
    _train_stages(names, recipe, options, minutes, make_accelerator(), lambda: None)


def _train_stages(
    names: tuple[StageName, ...],
    recipe: Recipe,
    options: RunOptions,
    minutes: dict[StageName, float],
    accelerator: Accelerator,
    begin: Callable[[], None],
) -> None:
    """The same of a run that is checked; each stage that trains calls `begin`: see `train`."""
    whole = [name for name in names if name not in PERSONAL_STAGES]
    if whole and is_sharded(accelerator):
        raise ValueError(
            f"FSDP2 can train {' and '.join(PERSONAL_STAGES)}, not {', '.join(whole)}: use configs/accelerate/ddp.yaml"
        )
    folder = ModelFolder(options.model, recipe, writes=accelerator.is_main_process)
    if "router" in names:
        check_router(folder)
    with StopRequest() as stop:
        for name in names:
            own = replace(options, minutes=minutes.get(name))
            finished = finished_at(name, recipe.stages[name], own) if options.resume else None
            if finished is None:
                train(build_stage(name, folder), recipe.stages[name], own, accelerator, stop, begin)
            elif not options.quiet:
                print(f"[{name}] finished at step {finished.step}", file=sys.stderr, flush=True)
    stale = stale_stages(options.model)
    if stale and not options.quiet:
        print(
            f"note: {', '.join(stale)} learned on weights that have changed since: train them further", file=sys.stderr
        )
