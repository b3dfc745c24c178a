"""A step that is not finite, saved so that it can be examined: its batches, seeds and parameters."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from anystory.files import atomic_folder
from anystory.input_files import read_object
from anystory.training.data.stream import Sample
from anystory.training.launch.devices import Precision, forward_pass
from anystory.training.non_finite import GuardedStep
from anystory.training.stages.stage import Stage, move
from anystory.training.state.checkpoints import find_checkpoint
from anystory.training.state.sharding import full_copy, full_tensor

_BATCH, _PARAMETERS, _RECORD = "batch.safetensors", "model.safetensors", "step.json"


@dataclass(frozen=True)
class BadStep:
    """A step that `save_bad_step` wrote."""

    step: int
    rank: int
    precision: Precision
    batches: list[Sample]
    seeds: list[int]
    """Of each batch's generator."""
    losses: list[dict[str, float]]
    grad_norm: float
    parameters: dict[str, Tensor] | None
    """The trained parameters as they were when the losses were computed; None where they were spoilt already."""
    checkpoint: str | None
    """The last checkpoint before, relative to the step's folder."""


@dataclass(frozen=True)
class ReplayedStep:
    """What a step computes: losses of each batch, and the norm of the gradient."""

    losses: list[dict[str, float]]
    grad_norm: float

    @property
    def finite(self) -> bool:
        """Whether every loss and the norm is a number."""
        return math.isfinite(self.grad_norm) and all(math.isfinite(losses["loss"]) for losses in self.losses)


def save_bad_step(
    folder: Path,
    bad: GuardedStep,
    *,
    parameters: dict[str, nn.Parameter],
    precision: Precision,
    rank: int,
    checkpoint: Path | None,
) -> None:
    """Write a step to `nan-step-N` in a stage's folder: tensors as safetensors, the rest as JSON.

    Of several processes each writes its own batches, the others than the main one to `nan-step-N-rank-R`, and those
    whose losses are numbers nothing; the parameters are alike in all, and the main process writes them. All must call
    this: the parameters may be in pieces.

    Raises:
        OSError, SafetensorError: it cannot be written.
    """
    assert bad.norm is not None
    weights: dict[str, Tensor] = {}
    for name, value in parameters.items() if bad.exact else ():
        full = full_tensor(value)
        if rank == 0:
            weights[name] = full_copy(full)
    if rank and all(bool(part.losses["loss"].isfinite()) for part in bad.batches):
        return
    main_folder = folder / f"nan-step-{bad.step}"
    step_folder = _folder_of(main_folder, rank)
    tensors: dict[str, Tensor] = {}
    parts: list[dict[str, Any]] = []
    for number, part in enumerate(bad.batches):
        values = {}
        for key, value in part.batch.items():
            if isinstance(value, Tensor):
                tensors[f"{number}.{key}"] = full_copy(value)
            else:
                values[key] = value
        losses = {key: str(float(value)) for key, value in part.losses.items()}  # JSON knows no NaN
        parts.append({"seed": part.seed, "losses": losses, "values": values})
    record = {
        "step": bad.step,
        "rank": rank,
        "precision": precision,
        "grad_norm": str(float(bad.norm)),
        "parameters": f"../{main_folder.name}/{_PARAMETERS}" if bad.exact else None,
        "checkpoint": None if checkpoint is None else f"../{checkpoint.relative_to(folder)}",
        "batches": parts,
    }
    with atomic_folder(step_folder) as fresh:
        save_file(tensors, fresh / _BATCH)
        if bad.exact and rank == 0:
            save_file(weights, fresh / _PARAMETERS)
        (fresh / _RECORD).write_text(json.dumps(record, indent=1, default=str), encoding="utf-8")


def describe_bad_step(name: str, bad: GuardedStep, stage: Path, precision: Precision) -> str:
    """The message about a step of stage `name` that is not finite; `stage` is the stage's folder."""
    assert bad.norm is not None
    values = ", ".join(f"{float(part.losses['loss']):g}" for part in bad.batches)
    last = find_checkpoint(stage)
    step_folder = stage / f"nan-step-{bad.step}"
    if bad.bad_losses is None or len(bad.bad_losses) == 1:
        what, kept = f"its loss is {values}", f"The batch is in {step_folder}"
    elif bad.failed_processes:
        ranks = ", ".join(map(str, bad.failed_processes))
        folders = ", ".join(str(_folder_of(step_folder, rank)) for rank in bad.failed_processes)
        what, kept = f"the loss is not a number in process {ranks}", f"The batch is in {folders}"
    else:
        what, kept = "the loss is a number in every process", f"The main process's batch is in {step_folder}"
    return (
        f"stage {name!r} stopped at step {bad.step}: {what}, its gradient's norm {float(bad.norm):g}. {kept}; "
        f"{f'the last checkpoint is {last.name}' if last else 'there is no checkpoint yet'}. "
        "The same run meets the same step again: lower learning_rate in the recipe"
        f"{'' if precision == 'fp32' else ', or use --precision fp32'}, then resume with --resume"
    )


def _folder_of(main_folder: Path, rank: int) -> Path:
    return main_folder.with_name(f"{main_folder.name}-rank-{rank}") if rank else main_folder


def load_bad_step(folder: Path) -> BadStep:
    """Read what `save_bad_step` wrote.

    Raises:
        ValueError: the folder holds no such step, or a damaged one.
    """
    if not (folder / _RECORD).is_file():
        raise ValueError(f"{folder} holds no saved step (it has no {_RECORD})")
    record = read_object(folder / _RECORD, "the step is lost; resume the run without it")
    try:
        return _bad_step(folder, record)
    except (KeyError, TypeError, AttributeError, ValueError, SafetensorError, OSError) as error:
        raise ValueError(f"{folder} holds a damaged step ({error!r:.80}): resume the run without it") from None


def _bad_step(folder: Path, record: dict[str, Any]) -> BadStep:
    tensors = load_file(folder / _BATCH)
    batches: list[Sample] = []
    for number, part in enumerate(record["batches"]):
        own = {k.partition(".")[2]: v for k, v in tensors.items() if k.startswith(f"{number}.")}
        batches.append(own | part["values"])
    return BadStep(
        step=record["step"],
        rank=record["rank"],
        precision=record["precision"],
        batches=batches,
        seeds=[part["seed"] for part in record["batches"]],
        losses=[{k: float(v) for k, v in part["losses"].items()} for part in record["batches"]],
        grad_norm=float(record["grad_norm"]),
        parameters=load_file(folder / record["parameters"]) if record["parameters"] else None,
        checkpoint=record["checkpoint"],
    )


def replay_bad_step(stage: Stage, bad: BadStep, precision: Precision | None = None) -> ReplayedStep:
    """Compute the step once more, with its parameters where they were kept, else with those that the stage has.

    The stage's trained parameters are changed, and their gradients left in step_folder to be looked at.

    Args:
        stage: the stage, built on the run's model folder.
        bad: the step.
        precision: another one than the run's, to see whether it is to blame.
    """
    trained = stage.freeze_rest()
    with torch.no_grad():
        for name, value in (bad.parameters or {}).items():
            trained[name].copy_(value)
    for parameter in trained.values():
        parameter.grad = None
    device = next(iter(trained.values())).device
    losses: list[dict[str, float]] = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for batch, seed in zip(bad.batches, bad.seeds, strict=True):
            torch.manual_seed(seed)
            with forward_pass(device, precision or bad.precision):
                found = stage(move(batch, device), torch.Generator(device=device).manual_seed(seed))
            (found["loss"] / len(bad.batches)).backward()
            losses.append({key: float(value.detach()) for key, value in found.items()})
    norm = torch.nn.utils.clip_grad_norm_(list(trained.values()), float("inf"))
    return ReplayedStep(losses, float(norm))
