"""The step that went wrong, kept so that it can be looked into: its batches, its seeds, its parameters."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from anystory.files import atomic_folder

from .checkpoints import find_checkpoint
from .devices import Precision, forward_pass
from .finite import WatchedStep
from .sharding import stored, whole
from .stage import Stage, move
from .stream import Sample

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
class Outcome:
    """What a step computes: losses of each batch, and the norm of the gradient."""

    losses: list[dict[str, float]]
    grad_norm: float

    @property
    def finite(self) -> bool:
        """Whether every loss and the norm is a number."""
        return math.isfinite(self.grad_norm) and all(math.isfinite(losses["loss"]) for losses in self.losses)


def save_bad_step(
    folder: Path,
    bad: WatchedStep,
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
        full = whole(value)
        if rank == 0:
            weights[name] = stored(full)
    if rank and all(bool(part.losses["loss"].isfinite()) for part in bad.parts):
        return
    chiefs = folder / f"nan-step-{bad.step}"
    place = _place_of(chiefs, rank) if rank else chiefs
    tensors: dict[str, Tensor] = {}
    parts: list[dict[str, Any]] = []
    for number, part in enumerate(bad.parts):
        values = {}
        for key, value in part.batch.items():
            if isinstance(value, Tensor):
                tensors[f"{number}.{key}"] = stored(value)
            else:
                values[key] = value
        losses = {key: str(float(value)) for key, value in part.losses.items()}  # JSON knows no NaN
        parts.append({"seed": part.seed, "losses": losses, "values": values})
    record = {
        "step": bad.step,
        "rank": rank,
        "precision": precision,
        "grad_norm": str(float(bad.norm)),
        "parameters": f"../{chiefs.name}/{_PARAMETERS}" if bad.exact else None,
        "checkpoint": None if checkpoint is None else f"../{checkpoint.relative_to(folder)}",
        "batches": parts,
    }
    with atomic_folder(place) as fresh:
        save_file(tensors, fresh / _BATCH)
        if bad.exact and rank == 0:
            save_file(weights, fresh / _PARAMETERS)
        (fresh / _RECORD).write_text(json.dumps(record, indent=1, default=str), encoding="utf-8")


def bad_step_sentence(name: str, bad: WatchedStep, stage: Path, precision: Precision) -> str:
    """What a person is told of a step that went wrong in stage `name`, whose folder is `stage`."""
    assert bad.norm is not None
    values = ", ".join(f"{float(part.losses['loss']):g}" for part in bad.parts)
    last = find_checkpoint(stage)
    place = stage / f"nan-step-{bad.step}"
    if bad.bad_losses is None or len(bad.bad_losses) == 1:
        what, kept = f"its loss is {values}", f"The batch is in {place}"
    elif bad.guilty:
        ranks = ", ".join(map(str, bad.guilty))
        places = ", ".join(str(place if rank == 0 else _place_of(place, rank)) for rank in bad.guilty)
        what, kept = f"the loss is not a number in process {ranks}", f"The batch is in {places}"
    else:
        what, kept = "the loss is a number in every process", f"The main process's batch is in {place}"
    return (
        f"stage {name!r} stopped at step {bad.step}: {what}, its gradient's norm {float(bad.norm):g}. {kept}; "
        f"{f'the last checkpoint is {last.name}' if last else 'there is no checkpoint yet'}. "
        "The same run meets the same step again: lower learning_rate in the recipe"
        f"{'' if precision == 'fp32' else ', or take --precision fp32'}, and go on with --resume"
    )


def _place_of(chiefs: Path, rank: int) -> Path:
    return chiefs.with_name(f"{chiefs.name}-rank-{rank}")


def load_bad_step(folder: Path) -> BadStep:
    """Read what `save_bad_step` wrote.

    Raises:
        ValueError: the folder holds no such step.
    """
    if not (folder / _RECORD).is_file():
        raise ValueError(f"{folder} holds no saved step (it has no {_RECORD})")
    record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
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


def replay_bad_step(stage: Stage, bad: BadStep, precision: Precision | None = None) -> Outcome:
    """Compute the step once more, with its parameters where they were kept, else with those that the stage has.

    The stage's trained parameters are changed, and their gradients left in place to be looked at.

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
    return Outcome(losses, float(norm))
