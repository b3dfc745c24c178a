"""Training state on disk: safetensors and JSON only, written to a temporary folder and then renamed.

A checkpoint folder holds `model.safetensors` (trained parameters), `ema.safetensors`, `optimizer.safetensors`
(AdamW's moments by parameter name) and `progress.json`. No random state is stored: every draw of a step is a function
of (seed, step), so the counters are enough.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from anystory.files import atomic_folder, recover_folder

CHECKPOINT = "checkpoint"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass
class Progress:
    """Where a stage stands."""

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    """Time spent training so far, over all runs."""


def _optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {
        f"{name}.{key}": _stored(value)
        for index, name in enumerate(names)
        for key, value in state.get(index, {}).items()
        if isinstance(value, Tensor)
    }


def save_checkpoint(
    folder: Path,
    parameters: dict[str, nn.Parameter],
    ema: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    progress: Progress,
) -> None:
    """Write `folder / checkpoint`, replacing an older one only once the new one is whole.

    `parameters` must list the optimizer's parameters in its own order.

    Raises:
        OSError: it cannot be written, for instance because the disk is full; the older one stays.
    """
    tensors = {
        "model": {name: _stored(value) for name, value in parameters.items()},
        "ema": {name: _stored(value) for name, value in ema.items()},
        "optimizer": _optimizer_tensors(optimizer, list(parameters)),
    }
    try:
        with atomic_folder(folder / CHECKPOINT) as fresh:
            for name, values in tensors.items():
                save_file(values, fresh / f"{name}.safetensors")
            (fresh / "progress.json").write_text(json.dumps(asdict(progress)), encoding="utf-8")
    except SafetensorError as error:
        raise OSError(f"cannot write a checkpoint to {folder}: {error} (is the disk full?)") from error


def find_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a stage folder, or None."""
    recover_folder(folder / CHECKPOINT)
    return folder / CHECKPOINT if (folder / CHECKPOINT / "progress.json").is_file() else None


def read_progress(checkpoint: Path) -> Progress:
    """Where a checkpoint stands, without loading its tensors."""
    return Progress(**json.loads((checkpoint / "progress.json").read_text(encoding="utf-8")))


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, FileNotFoundError) as error:
        raise ValueError(f"{path} cannot be read: {error}. Remove {path.parent} to start this stage over.") from error


def _stored(value: Tensor) -> Tensor:
    return value.detach().cpu().contiguous().clone()


def _copy_checked(source: dict[str, Tensor], target: dict[str, Tensor], what: str, path: Path) -> None:
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
            value.copy_(source[key])


def load_checkpoint(
    path: Path,
    parameters: dict[str, nn.Parameter],
    ema: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> Progress:
    """Restore all state in place from a folder that `find_checkpoint` found.

    Raises:
        ValueError: the tensors do not fit the model that is being trained.
    """
    _copy_checked(_read(path / "model.safetensors"), dict(parameters), "model.safetensors", path)
    _copy_checked(_read(path / "ema.safetensors"), ema, "ema.safetensors", path)
    moments = _read(path / "optimizer.safetensors")
    # A parameter that no step has reached yet (its layer was never run) has no moments at all.
    started = {name for name in parameters if f"{name}.step" in moments}
    wanted = {f"{name}.{key}": parameters[name] for name in started for key in _MOMENTS}
    fitting = {
        key
        for key in wanted.keys() & moments.keys()
        if key.endswith(".step") or moments[key].shape == wanted[key].shape
    }
    wrong = sorted((wanted.keys() | moments.keys()) - fitting)
    if wrong:
        raise ValueError(f"optimizer.safetensors in {path} does not fit this model, first {wrong[:3]}")
    state = {
        index: {key: moments[f"{name}.{key}"] for key in _MOMENTS}
        for index, name in enumerate(parameters)
        if name in started
    }
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return read_progress(path)
