"""One checkpoint on disk: safetensors and JSON only, and a manifest by which damage is noticed.

A checkpoint folder holds `model.safetensors` (trained parameters), `ema.safetensors`, `optimizer.safetensors`
(the optimizer's tensors by parameter name), `progress.json` and `manifest.json` (bytes and SHA-256 of the others). No
random state is stored: every draw of a step is a function of (seed, step), so the counters are enough.
`checkpoints.py` says which folders there are and which are kept.
"""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from anystory.files import sha256_file

from .moments import Moments, NamedTensors
from .sharding import like, stored, whole

MANIFEST = "manifest.json"
PROGRESS = "progress.json"


@dataclass
class Progress:
    """Where a stage stands."""

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    """Time spent training so far, over all runs."""


@dataclass(frozen=True)
class Figure:
    """What validation said of a checkpoint: its main figure."""

    name: str
    value: float
    larger_is_better: bool = False

    def beats(self, other: Figure | None) -> bool:
        """Whether this is the better one; one that is not a number beats nothing."""
        if not math.isfinite(self.value) or other is None:
            return math.isfinite(self.value)
        return self.value > other.value if self.larger_is_better else self.value < other.value


@dataclass(frozen=True)
class TrainingState:
    """The live tensors that a checkpoint is a copy of."""

    parameters: dict[str, nn.Parameter]
    """What is trained, in the optimizer's own order."""
    ema: dict[str, Tensor]
    """Their averages; empty where none are kept."""
    moments: Moments
    """What the optimizer remembers of them."""


def write_checkpoint(fresh: Path, state: TrainingState, progress: Progress, figure: Figure | None = None) -> None:
    """Fill an empty folder. The manifest comes last.

    Raises:
        OSError, SafetensorError: it cannot be written, for instance because the disk is full.
    """
    # One file after another: main memory holds a copy of one of them at a time.
    save_file({name: stored(value) for name, value in state.parameters.items()}, fresh / "model.safetensors")
    save_file({name: stored(value) for name, value in state.ema.items()}, fresh / "ema.safetensors")
    save_file(
        {f"{name}.{kind}": stored(value) for name, kept in state.moments.tensors() for kind, value in kept.items()},
        fresh / "optimizer.safetensors",
    )
    position: dict[str, Any] = asdict(progress)
    if figure is not None:
        position["figure"] = asdict(figure)
    (fresh / PROGRESS).write_text(json.dumps(position), encoding="utf-8")
    write_manifest(fresh)


def attend_checkpoint(state: TrainingState) -> None:
    """What the other processes do while the main one writes, where tensors are in pieces: give theirs, in its order."""
    for value in (*state.parameters.values(), *state.ema.values()):
        whole(value)
    for _ in state.moments.tensors():
        pass


def write_manifest(folder: Path) -> None:
    """Write down what the folder's files are, so that `damage` can tell."""
    files = sorted(file for file in folder.iterdir() if file.name != MANIFEST)
    with ThreadPoolExecutor() as pool:  # hashing leaves the interpreter's lock alone
        hashes = list(pool.map(sha256_file, files))
    entries = {f.name: {"bytes": f.stat().st_size, "sha256": h} for f, h in zip(files, hashes, strict=True)}
    (folder / MANIFEST).write_text(json.dumps({"files": entries}, indent=1), encoding="utf-8")


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint's files, in a few words; None if they are as they were written."""
    try:
        entries = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))["files"].items()
    except FileNotFoundError:
        return f"it has no {MANIFEST}"
    except (ValueError, KeyError, AttributeError, OSError) as error:
        return f"its {MANIFEST} cannot be read: {error}"
    for name, entry in entries:
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != entry["bytes"]:
            return f"{name} has {path.stat().st_size} of {entry['bytes']} bytes"
    with ThreadPoolExecutor() as pool:
        hashes = list(pool.map(sha256_file, [checkpoint / name for name, _ in entries]))
    changed = [name for (name, entry), found in zip(entries, hashes, strict=True) if found != entry["sha256"]]
    return f"{', '.join(changed)} has other contents than were written" if changed else None


def read_progress(checkpoint: Path) -> Progress:
    """Where a checkpoint stands, without loading its tensors."""
    values = json.loads((checkpoint / PROGRESS).read_text(encoding="utf-8"))
    return Progress(step=values["step"], samples=values["samples"], seconds=values["seconds"])


def read_figure(checkpoint: Path) -> Figure | None:
    """What validation said of a checkpoint; None if it was written between two validations."""
    figure = json.loads((checkpoint / PROGRESS).read_text(encoding="utf-8")).get("figure")
    return None if figure is None else Figure(**figure)


def load_checkpoint(path: Path, state: TrainingState) -> Progress:
    """Restore all state in place.

    Raises:
        ValueError: the tensors do not fit the model that is being trained, or cannot be read.
    """
    _copy_checked(_read(path / "model.safetensors"), dict(state.parameters), "model.safetensors", path)
    _copy_checked(_read(path / "ema.safetensors"), state.ema, "ema.safetensors", path)
    found: dict[str, NamedTensors] = {}
    for key, value in _read(path / "optimizer.safetensors").items():
        name, _, kind = key.rpartition(".")
        found.setdefault(name, {})[kind] = value
    kinds = state.moments.kinds
    if found and not any(kind in tensors for tensors in found.values() for kind in kinds):
        raise ValueError(
            f"{path} was written with another optimizer: resume with the recipe the run began with, or choose another "
            "--out"
        )
    # A parameter that no step has reached yet (its layer was never run) has no moments at all.
    wrong = sorted(
        name
        for name, tensors in found.items()
        if name not in state.parameters
        or any(kind not in tensors or tensors[kind].shape != state.parameters[name].shape for kind in kinds)
    )
    if wrong:
        raise ValueError(f"optimizer.safetensors in {path} does not fit this model, first {wrong[:3]}")
    state.moments.restore(found)
    return read_progress(path)


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
            value.copy_(like(source[key], value))
