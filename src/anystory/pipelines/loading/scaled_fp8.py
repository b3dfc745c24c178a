"""Weights in 8 bits with a scale for each tensor: what is loaded is weight × scale.

    X.weight         float8
    X.scale_weight   its scale, as ComfyUI wrote it first; or X.weight_scale, as it and others write it now
    X.scale_input    for computing in 8 bits, or X.input_scale: not used here
    scaled_fp8       a mark without a value

Only the scale shows that such a weight is not the model's: read without it, the file draws noise. 8-bit files without
scales hold the weights as they are and need nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from anystory.pipelines.loading.headers import read_headers, weight_files

__all__ = ["dequantised", "is_scaled", "load_scaled"]

_SCALES = (".scale_weight", ".weight_scale")
_UNUSED = (".scale_input", ".input_scale")
_MARK = "scaled_fp8"
_FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)
_OTHER = (
    ".absmax", ".quant_map", ".weight_scale_2", ".weight_scale_inv", ".SCB", ".qweight", ".scales", ".zero_point",
)  # fmt: skip
"""Ends of the names that weights in 4 bits, in whole numbers, or with a scale for each block have besides."""


def is_scaled(keys: Iterable[str]) -> bool:
    """Whether some weights have scales."""
    return any(key.endswith((*_SCALES, *_OTHER)) for key in keys)


def dequantised(weights: Mapping[str, Tensor], label: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Multiply weights with their scales.

    Args:
        weights: those of a file, under any names; weights without scales stay as they are.
        label: the file, for messages.
        dtype: of what was scaled.

    Raises:
        ValueError: 4 bits, whole numbers, scales for blocks, or a scale without its weight.
    """
    if not is_scaled(weights):
        return {key: value for key, value in weights.items() if not _is_extra(key)}
    if other := sorted(key for key in weights if key.endswith(_OTHER)):
        raise _refusal(label, f"{other[0]} and {len(other) - 1} more" if len(other) > 1 else other[0])
    kept = {key: value for key, value in weights.items() if not _is_extra(key)}
    for key, scale in weights.items():
        end = next((end for end in _SCALES if key.endswith(end)), None)
        if end is None:
            continue
        name = f"{key.removesuffix(end)}.weight"
        weight = weights.get(name)
        if weight is None:
            raise ValueError(f"{label} has {key} but no {name}: it is not whole. Download it again, or take another")
        if weight.dtype not in _FLOAT8 or (factor := _spread(scale, weight)) is None:
            kind = str(weight.dtype).removeprefix("torch.")
            raise _refusal(label, f"{key} {tuple(scale.shape)} for {kind} {tuple(weight.shape)}")
        kept[name] = (weight.float() * factor).to(dtype)
    return kept


def load_scaled(model: nn.Module, folder: str | os.PathLike[str], variant: str | None = None) -> bool:
    """Reload a model's weights with their scales, if its folder has scales.

    Args:
        model: as diffusers or transformers read it, without the scales.
        folder: of its weights.
        variant: the weights that were read; the plain ones if there is no such variant.

    Returns:
        Whether there were scales.

    Raises:
        ValueError: as for `dequantised`, or weights that are not the model's.
    """
    files = weight_files(Path(folder)) if os.path.isdir(folder) else {}
    own = files.get(variant or "") or files.get("") or []
    if not own or not is_scaled(read_headers(own)):
        return False
    weights: dict[str, Tensor] = {}
    for path in own:
        weights |= load_file(path)
    try:
        model.load_state_dict(dequantised(weights, str(folder)))
    except RuntimeError as error:
        raise ValueError(
            f"{folder} holds weights in 8 bits with scales, under names that {type(model).__name__} does not have"
            f" ({str(error).splitlines()[-1].strip()}): take the model in 16 bits"
        ) from None
    return True


def _is_extra(key: str) -> bool:
    return key.endswith((*_SCALES, *_UNUSED, ".comfy_quant")) or key.rpartition(".")[2] == _MARK


def _spread(scale: Tensor, weight: Tensor) -> Tensor | None:
    """A scale for the whole tensor or for each output, shaped to multiply it; None for another kind."""
    if scale.numel() == 1:
        return scale.float().reshape(())
    if scale.numel() == len(weight) and scale.shape[0] == len(weight):
        return scale.float().reshape(-1, *[1] * (weight.ndim - 1))
    return None


def _refusal(label: str, found: str) -> ValueError:
    return ValueError(
        f"{label} is quantised in a way that is not read here ({found}): expected 16 or 32 bits, or 8-bit floats with"
        " one scale for a tensor or for each of its outputs. Take the model in 16 bits"
    )
