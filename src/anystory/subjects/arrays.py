"""Arrays and tensors to uint8 pictures, with the checks that arrays need and files do not."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["is_tensor", "picture_from_array", "plain_number", "rgba_on_white", "tensor_to_array"]


def is_tensor(value: Any) -> bool:
    """Whether a value is a torch tensor, told without importing torch."""
    return any(base.__module__ == "torch" and base.__name__ == "Tensor" for base in type(value).__mro__)


def plain_number(value: Any) -> Any:
    """A numpy or torch scalar as Python's own number; anything else as it is."""
    if isinstance(value, np.generic) or (getattr(value, "ndim", None) == 0 and hasattr(value, "item")):
        return value.item()
    return value


def tensor_to_array(tensor: Any, label: str) -> np.ndarray:
    """A tensor (H, W) or (C, H, W) as an array (H, W) or (H, W, C) of its own kind of numbers.

    Raises:
        ValueError: another shape.
    """
    if tensor.ndim == 3 and tensor.shape[0] in (1, 3, 4):
        tensor = tensor.permute(1, 2, 0)
    elif tensor.ndim != 2:
        hint = ": take one of the batch" if tensor.ndim == 4 else ""
        raise ValueError(
            f"{label}: a tensor must have the shape (H, W) or (C, H, W) with 1, 3 or 4 channels, "
            f"got {tuple(tensor.shape)}{hint}"
        )
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def picture_from_array(array: np.ndarray, label: str) -> np.ndarray:
    """(H, W), (H, W, 1|2|3|4) of uint8, uint16 or float in [0, 1] as uint8 (H, W, 3), or (H, W, 4) with an alpha.

    Raises:
        ValueError: another shape or type, NaN or infinite values, floats outside [0, 1].
    """
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 2, 3, 4):
        hint = ""
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            hint = ": channels come last in an array; use array.transpose(1, 2, 0)"
        elif array.ndim == 4:
            hint = ": take one of the batch"
        raise ValueError(f"{label}: an array must have the shape (H, W) or (H, W, channels), got {array.shape}{hint}")
    pixels = _to_uint8(array, label)
    if pixels.shape[-1] <= 2:  # grey, grey and alpha
        pixels = np.concatenate([pixels[..., :1]] * 3 + [pixels[..., 1:]], axis=-1)
    return np.ascontiguousarray(pixels)


def rgba_on_white(rgba: np.ndarray) -> np.ndarray:
    """Straight-alpha uint8 (…, 4) over white, uint8 (…, 3): the fill of a segmented reference (D10)."""
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _to_uint8(array: np.ndarray, label: str) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype.kind != "f":
        raise ValueError(f"{label}: colours must be uint8, uint16, or floats in [0, 1], got {array.dtype}")
    if not np.isfinite(array).all():
        raise ValueError(f"{label} holds {np.count_nonzero(~np.isfinite(array))} values that are NaN or infinite")
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 1.0)
    if low < 0 or high > 1:
        hint = "(x + 1) / 2" if low >= -1 and high <= 1 else "x / 255" if low >= 0 and high <= 255 else "a rescaling"
        raise ValueError(f"{label}: floats must lie in [0, 1], got {low:.4g} to {high:.4g}. Try {hint}")
    return np.rint(array.astype(np.float32) * 255).astype(np.uint8)
