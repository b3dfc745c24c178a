"""A run's checkpoint as a model folder: what the end of its stage would have written, without training further."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anystory.files import atomic_folder, check_new_folder
from anystory.precision import default_device
from anystory.training.launch.devices import computes_in
from anystory.training.launch.run_file import RunFile, read_run_file
from anystory.training.model.components import ModelFolder, copy_model
from anystory.training.model.exports import INPUTS, note_export, stale_stages
from anystory.training.recipe import StageName
from anystory.training.stages import build_stage
from anystory.training.state.checkpoint import Metric, damage, load_exported, read_metric, read_progress
from anystory.training.state.checkpoints import STEP, all_checkpoints, best_checkpoint
from anystory.training.state.train_state import Progress


@dataclass(frozen=True)
class Exported:
    """What `export_checkpoint` wrote."""

    stage: StageName
    checkpoint: Path
    progress: Progress
    metric: Metric | None
    """What validation said of it; None if it was written between two validations."""
    adapter_only: bool
    """Whether the folder holds an adapter for the recipe's base, and no model of its own."""
    stale: tuple[str, ...]
    """Stages in the folder that learned on other weights than those it holds now."""


def export_checkpoint(run: Path, out: Path, stage: StageName | None = None, checkpoint: str | None = None) -> Exported:
    """Write the weights of a checkpoint to a model folder, averaged where the run keeps an average.

    Parts that the stage does not train are those of `run / "model"`. The run's folder is only read, so the run may
    continue meanwhile. Copies of weights that the run keeps in main memory (`masters: cpu`) are written in the type
    that this machine computes in, as the run's own are in its machine's.

    Args:
        run: a run's folder.
        out: a folder that does not exist yet, or is empty.
        stage: None is the last of the run's stages that has a checkpoint.
        checkpoint: `best`, `last` or `step-N`; None is the best where validation ran, else the last.

    Raises:
        ValueError: `run` is no run, has no such stage or checkpoint, or a damaged one; `out` is in use.
    """
    run, out = run.resolve(), out.resolve()
    check_new_folder(out)
    if out.is_relative_to(run / "model"):
        raise ValueError(f"--out {out} is where the run writes its model: name a folder outside {run / 'model'}")
    asked = read_run_file(run)
    name = _stage_of(run, asked, stage)
    found = _choose(run / name, checkpoint)
    recipe, config = asked.recipe, asked.recipe.stages[name]
    if recipe.base is None and INPUTS[name] and not (run / "model").is_dir():
        raise ValueError(f"{run / 'model'} is gone, which held what stage {name!r} was trained on")
    try:
        progress, metric = read_progress(found), read_metric(found)
        with atomic_folder(out) as fresh:
            copy_model(run / "model", fresh)
            built = build_stage(name, ModelFolder(fresh, recipe))
            built.begin(resumed=True)
            parameters = built.freeze_rest()
            if config.masters == "cpu":
                dtype = computes_in(default_device(None), asked.run_options(run, resume=True).precision)
                for value in parameters.values():
                    value.data = value.data.to(dtype)
            load_exported(found, parameters)
            built.before_export()
            built.export(fresh)
            note_export(fresh, name, progress.step)
            stale = tuple(stale_stages(fresh))
    except (OSError, ValueError) as error:
        if found.is_dir():
            raise
        raise ValueError(f"{found} was removed while it was read, since the run continues: try again") from error
    return Exported(name, found, progress, metric, recipe.base is not None, stale)


def _stage_of(run: Path, asked: RunFile, stage: StageName | None) -> StageName:
    """The stage whose checkpoint is meant."""
    known = asked.recipe.stage_names
    if stage is not None and stage not in known:
        raise ValueError(f"--stage: the run in {run} has no {stage!r}, only {', '.join(known)}")
    there: list[StageName] = [name for name in known if all_checkpoints(run / name)]
    fitting: list[StageName] = [name for name in there if stage in (None, name)]
    if not fitting:
        meant = "" if stage is None else f" of stage {stage!r}"
        others = f"; there are some of {', '.join(there)}" if there else ""
        raise ValueError(f"{run} holds no checkpoint{meant} yet{others}")
    latest: list[StageName] = [name for name in fitting if name in asked.stages]
    return (latest or fitting)[-1]


def _choose(stage: Path, wanted: str | None) -> Path:
    """The checkpoint that is meant, whole."""
    there = {path: f"{STEP}{_step(path)}" for path in all_checkpoints(stage)}
    listed = ", ".join(there.values())
    best = None if wanted == "last" else best_checkpoint(stage)
    if wanted in (None, "last"):
        found = best or list(there)[-1]
    elif wanted == "best":
        if best is None:
            raise ValueError(
                f"no checkpoint in {stage} was validated (validate_every): choose last, or one of {listed}"
            )
        found = best
    else:
        digits = wanted.removeprefix(STEP)
        if not digits.isdecimal():
            raise ValueError(f"--checkpoint is best, last or step-N, got {wanted!r}; {stage} holds {listed}")
        matching = [path for path in there if _step(path) == int(digits)]
        if not matching:
            raise ValueError(f"{stage} holds no checkpoint of step {int(digits)}: it keeps {listed}")
        found = matching[0]
    wrong = damage(found)
    if wrong is not None:
        others = ", ".join(label for path, label in there.items() if path != found)
        hint = f"choose another with --checkpoint: {others}" if others else "there is no other"
        raise ValueError(f"checkpoint {found} is damaged ({wrong}): {hint}")
    return found


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(STEP))
