"""Training state on disk: safetensors and JSON only, written to a temporary folder and then renamed.

A checkpoint folder holds `model.safetensors` (trained parameters), `ema.safetensors`, `optimizer.safetensors`
(AdamW's moments by parameter name) and `progress.json`. No random state is stored: every draw of a step is a function
of (seed, step), so the counters are enough.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

CHECKPOINT = "checkpoint"


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
        f"{name}.{key}": value.detach().cpu().contiguous().clone()
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
    """
    target, fresh, old = folder / CHECKPOINT, folder / f"{CHECKPOINT}.tmp", folder / f"{CHECKPOINT}.old"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in parameters.items()}, fresh / "model.safetensors")
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in ema.items()}, fresh / "ema.safetensors")
    save_file(_optimizer_tensors(optimizer, list(parameters)), fresh / "optimizer.safetensors")
    (fresh / "progress.json").write_text(json.dumps(asdict(progress)), encoding="utf-8")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def find_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a stage folder, or None. A stop between two renames leaves only `.old`: use it."""
    for name in (CHECKPOINT, f"{CHECKPOINT}.old"):
        if (folder / name / "progress.json").is_file():
            return folder / name
    return None


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
    _copy_checked(load_file(path / "model.safetensors"), dict(parameters), "model.safetensors", path)
    _copy_checked(load_file(path / "ema.safetensors"), ema, "ema.safetensors", path)
    moments = load_file(path / "optimizer.safetensors")
    state: dict[int, dict[str, Tensor]] = {}
    for index, name in enumerate(parameters):
        own = {k: moments[f"{name}.{k}"] for k in ("step", "exp_avg", "exp_avg_sq") if f"{name}.{k}" in moments}
        if own:
            state[index] = own
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return Progress(**json.loads((path / "progress.json").read_text(encoding="utf-8")))
