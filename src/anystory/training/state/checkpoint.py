"""One checkpoint on disk: safetensors and JSON, and a manifest that shows damage.

A checkpoint folder holds `model.safetensors` (trained parameters), `ema.safetensors` (their averages),
`optimizer.safetensors` (the optimizer's tensors by parameter name), `progress.json` and `manifest.json` (bytes and
SHA-256 of the others). No random state is stored: every draw of a step is a function of (seed, step), so the counters
are enough. `checkpoints.py` says which checkpoints a stage has and which it keeps.
"""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from anystory.files import sha256_file
from anystory.input_files import read_object
from anystory.training.state.optimizer_state import NamedTensors
from anystory.training.state.sharding import full_copy, full_tensor, shard
from anystory.training.state.train_state import Progress, TrainState

MANIFEST = "manifest.json"
PROGRESS = "progress.json"


_METRIC = "figure"
"""The metric's name in `progress.json`."""


@dataclass(frozen=True)
class Metric:
    """How good validation found the weights of a checkpoint to be."""

    name: str
    value: float
    larger_is_better: bool = False

    def is_better_than(self, other: Metric | None) -> bool:
        """Any number is better than none, and NaN better than nothing."""
        if not math.isfinite(self.value) or other is None:
            return math.isfinite(self.value)
        return self.value > other.value if self.larger_is_better else self.value < other.value


def write_checkpoint(fresh: Path, state: TrainState, metric: Metric | None = None) -> None:
    """Fill an empty folder. The manifest comes last.

    Raises:
        OSError, SafetensorError: it cannot be written, for instance because the disk is full.
    """
    # One file after another: main memory holds a copy of one of them at a time.
    save_file({name: full_copy(value) for name, value in state.parameters.items()}, fresh / "model.safetensors")
    save_file({name: full_copy(value) for name, value in state.averages.items()}, fresh / "ema.safetensors")
    moments = state.optimizer.tensors()
    save_file(
        {f"{name}.{key}": full_copy(value) for name, own in moments for key, value in own.items()},
        fresh / "optimizer.safetensors",
    )
    position: dict[str, Any] = asdict(state.progress)
    if metric is not None:
        position[_METRIC] = asdict(metric)
    (fresh / PROGRESS).write_text(json.dumps(position), encoding="utf-8")
    write_manifest(fresh)


def join_checkpoint(state: TrainState) -> None:
    """What the other processes do while the main one writes sharded tensors: give their shards, in its order."""
    for value in (*state.parameters.values(), *state.averages.values()):
        full_tensor(value)
    for _ in state.optimizer.tensors():
        pass


def write_manifest(folder: Path) -> None:
    """Write the size and hash of every file, for `damage`."""
    files = sorted(file for file in folder.iterdir() if file.name != MANIFEST)
    with ThreadPoolExecutor() as pool:  # hashing leaves the interpreter's lock alone
        hashes = list(pool.map(sha256_file, files))
    entries = {f.name: {"bytes": f.stat().st_size, "sha256": h} for f, h in zip(files, hashes, strict=True)}
    (folder / MANIFEST).write_text(json.dumps({"files": entries}, indent=1), encoding="utf-8")


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint's files, in a few words; None if they are as they were written."""
    try:
        entries = {
            name: (entry["bytes"], entry["sha256"])
            for name, entry in read_object(checkpoint / MANIFEST)["files"].items()
        }
    except FileNotFoundError:
        return f"it has no {MANIFEST}"
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        return f"its {MANIFEST} cannot be read: {error}"
    for name, (size, _) in entries.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} of {size} bytes"
    with ThreadPoolExecutor() as pool:
        hashes = list(pool.map(sha256_file, [checkpoint / name for name in entries]))
    changed = [name for (name, (_, digest)), found in zip(entries.items(), hashes, strict=True) if found != digest]
    return f"{', '.join(changed)} has other contents than were written" if changed else None


def read_progress(checkpoint: Path) -> Progress:
    """How far a checkpoint is, without loading its tensors.

    Raises:
        ValueError: its `progress.json` is damaged.
    """
    position = _read_position(checkpoint)
    return _checked(Progress, {field.name: position.get(field.name) for field in fields(Progress)}, checkpoint)


def read_metric(checkpoint: Path) -> Metric | None:
    """What validation found of a checkpoint; None if it was written between two validations.

    Raises:
        ValueError: its `progress.json` is damaged.
    """
    metric = _read_position(checkpoint).get(_METRIC)
    return None if metric is None else _checked(Metric, metric, checkpoint)


def _read_position(checkpoint: Path) -> dict[str, Any]:
    try:
        return read_object(checkpoint / PROGRESS, _remedy(checkpoint))
    except FileNotFoundError:
        raise ValueError(f"{checkpoint} has no {PROGRESS}: {_remedy(checkpoint)}") from None


def _checked(kind: Any, values: Any, checkpoint: Path) -> Any:
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
        raise ValueError(f"{checkpoint / PROGRESS} is damaged ({wrong}): {_remedy(checkpoint)}") from None


def _remedy(checkpoint: Path) -> str:
    return f"remove {checkpoint} to resume from the checkpoint before it"


def load_checkpoint(path: Path, state: TrainState) -> None:
    """Restore a state in place.

    Raises:
        ValueError: the tensors do not fit the model that is being trained, or cannot be read.
    """
    _copy_checked(_read(path / "model.safetensors"), dict(state.parameters), "model.safetensors", path)
    _copy_checked(_read(path / "ema.safetensors"), state.averages, "ema.safetensors", path)
    found: dict[str, NamedTensors] = {}
    for key, value in _read(path / "optimizer.safetensors").items():
        name, _, kind = key.rpartition(".")
        found.setdefault(name, {})[kind] = value
    _check_moments(found, state, path)
    state.optimizer.restore(found)
    state.progress = read_progress(path)


def _check_moments(found: dict[str, NamedTensors], state: TrainState, path: Path) -> None:
    """Raises ValueError where an optimizer's stored tensors are not those of this model and optimizer."""
    moments = {name: state.optimizer.moment_names(name) for name in found if name in state.parameters}
    if any(not any(key in found[name] for key in own) for name, own in moments.items()):
        raise ValueError(
            f"{path} was written with another optimizer: resume with the recipe the run began with, or choose another "
            "--out"
        )
    # A parameter that no step has reached yet (its layer was never run) has no moments at all.
    wrong = sorted(
        name
        for name, tensors in found.items()
        if name not in moments
        or any(key not in tensors or tensors[key].shape != state.parameters[name].shape for key in moments[name])
    )
    if wrong:
        raise ValueError(f"optimizer.safetensors in {path} does not fit this model, first {wrong[:3]}")


def load_exported(path: Path, parameters: dict[str, nn.Parameter]) -> None:
    """Give parameters the weights that a stage exports: the averages, or the weights themselves where none are kept.

    Raises:
        ValueError: the tensors do not fit, or cannot be read.
    """
    name = "ema.safetensors"
    source = _read(path / name)
    if not source:
        name = "model.safetensors"
        source = _read(path / name)
    _copy_checked(source, dict(parameters), name, path)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, FileNotFoundError) as error:
        raise ValueError(f"{path} cannot be read: {error}. Remove {path.parent} to start this stage over.") from error


def _copy_checked(source: dict[str, Tensor], target: dict[str, Any], what: str, path: Path) -> None:
    wrong = sorted(
        set(source) ^ set(target) | {k for k in set(source) & set(target) if source[k].shape != target[k].shape}
    )
    if wrong:
        raise ValueError(
            f"{what} in {path} does not fit this model: {len(wrong)} tensors missing, unexpected or of another shape, "
            f"first {wrong[:3]}. Resume with the recipe the run began with, or choose another --out."
        )
    with torch.no_grad():
        for key, value in target.items():
            value.copy_(shard(source[key], value))
