"""The average of two trainings of one model, weight by weight (Wortsman et al. 2022, "Model soups").

Two runs that began with the same weights often end where what lies between them is as good as either, or better.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from anystory.files import atomic_folder, check_new_folder
from anystory.models.saved.checksums import SUMS, write_all_sums
from anystory.training.model.components import copy_model

_WEIGHTS = "*.safetensors"


def average_models(first: Path, second: Path, out: Path, share: float = 0.5) -> list[str]:
    """Write `(1 − share) · first + share · second` to a folder; all that is not a weight is the first's.

    The mean is formed in float32 and kept in the first's type, and its files are those of the first.

    Args:
        first, second: model or adapter folders with the same parts, of the same sizes. Files may be cut differently.
        out: a folder that does not exist yet, or is empty.
        share: the second's, 0 to 1.

    Returns:
        The parts (folders below `first`, "." for itself) in which the two differed.

    Raises:
        ValueError: `share` is out of range; a folder holds no weights, or damaged ones; the two do not hold the same
            weights; `out` is in use or lies in one of them.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"--share must be between 0 and 1, got {share}")
    first, second, out = first.resolve(), second.resolve(), out.resolve()
    check_new_folder(out)
    if out.is_relative_to(first) or out.is_relative_to(second):
        raise ValueError(f"--out {out} lies in a model that is averaged: name a folder outside")
    parts = _parts(first)
    if parts != _parts(second):
        raise ValueError(f"{first} has weights in {', '.join(parts)}, and {second} in {', '.join(_parts(second))}")
    differing = []
    with atomic_folder(out) as fresh:
        copy_model(first, fresh)
        for part in parts:
            files, other = _read(fresh / part), _joined(_read(second / part))
            own = _joined(files)
            _check_alike(part, own, other)
            if all(torch.equal(value, other[key]) for key, value in own.items()):
                continue
            differing.append(part)
            for path, tensors in files.items():
                save_file({k: _mean(v, other[k], share) for k, v in tensors.items()}, path, metadata={"format": "pt"})
        for listed in sorted(fresh.rglob(SUMS), key=lambda path: -len(path.parts)):
            write_all_sums(listed.parent)
    return differing


def _parts(model: Path) -> list[str]:
    """The folders that hold weights, as names relative to a model's."""
    found = sorted({path.parent.relative_to(model).as_posix() for path in model.rglob(_WEIGHTS)})
    if not found:
        raise ValueError(f"{model} holds no weights (*.safetensors): expected a model's or an adapter's folder")
    return found


def _read(part: Path) -> dict[Path, dict[str, Tensor]]:
    """What each file of weights holds."""
    return {path: _read_file(path) for path in sorted(part.glob(_WEIGHTS))}


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}): get it again") from error


def _joined(files: Mapping[Path, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {key: value for tensors in files.values() for key, value in tensors.items()}


def _check_alike(part: str, own: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    """Raises ValueError where two parts hold other weights, or weights of other sizes."""
    for key in sorted(own.keys() ^ other.keys()):
        raise ValueError(f"only one of the models has the weight {key} in {part}: average trainings of one model")
    for key, value in own.items():
        if value.shape != other[key].shape:
            sizes = f"{tuple(value.shape)} and {tuple(other[key].shape)}"
            raise ValueError(f"{key} in {part} has the sizes {sizes}: average trainings of one model")


def _mean(own: Tensor, other: Tensor, share: float) -> Tensor:
    """Whole numbers, such as positions, stay the first's."""
    if not own.is_floating_point():
        return own
    return torch.lerp(own.float(), other.float(), share).to(own.dtype).contiguous()
