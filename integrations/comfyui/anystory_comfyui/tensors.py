"""ComfyUI's pictures and masks to Pillow's and back.

IMAGE is (B, H, W, C) float in 0…1 with 3 or 4 channels, MASK is (B, H, W) float in 0…1, white where something is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

__all__ = ["image_batch", "mask_batch", "mask_pictures", "one_picture", "pictures"]


def pictures(images: torch.Tensor, name: str) -> list[Image.Image]:
    """An IMAGE as pictures, RGB or RGBA.

    Args:
        images: The tensor.
        name: The input, for messages.

    Raises:
        ValueError: another shape, or numbers that are no colours.
    """
    if images.ndim != 4 or images.shape[-1] not in (3, 4) or 0 in images.shape:
        raise ValueError(f"{name} must be an IMAGE (B, H, W, 3 or 4), got {tuple(images.shape)}")
    return [Image.fromarray(pixels) for pixels in _bytes(images, name)]


def one_picture(images: torch.Tensor, name: str) -> Image.Image:
    """An IMAGE of one picture.

    Raises:
        ValueError: as for `pictures`; or a batch of several.
    """
    found = pictures(images, name)
    if len(found) != 1:
        raise ValueError(f"{name} must be one picture, got a batch of {len(found)}: choose one, as with ImageFromBatch")
    return found[0]


def mask_pictures(masks: torch.Tensor, name: str) -> list[Image.Image]:
    """A MASK as pictures of mode "L", each with something white.

    Raises:
        ValueError: another shape, numbers that are no colours, or a mask that is empty.
    """
    masks = masks[None] if masks.ndim == 2 else masks
    if masks.ndim != 3 or 0 in masks.shape:
        raise ValueError(f"{name} must be a MASK (B, H, W), got {tuple(masks.shape)}")
    found = [Image.fromarray(pixels) for pixels in _bytes(masks, name)]
    if any(one.getextrema()[1] < 128 for one in found):  # type: ignore[operator]  # of mode "L" it is a pair
        raise ValueError(
            f"{name} must be white where something is, and this one is black all over: Load Image gives such a mask for"
            " a picture without transparency; leave it unconnected, or paint one"
        )
    return found


def image_batch(found: Sequence[Image.Image]) -> torch.Tensor:
    """Pictures of one size as an IMAGE with three channels."""
    pixels = np.stack([np.asarray(picture.convert("RGB"), np.float32) for picture in found])
    return torch.from_numpy(pixels / 255)


def mask_batch(masks: np.ndarray) -> torch.Tensor:
    """Masks (B, H, W), bool or in 0…1, as a MASK."""
    return torch.from_numpy(np.ascontiguousarray(masks, np.float32))


def _bytes(tensor: torch.Tensor, name: str) -> np.ndarray:
    values = tensor.detach().to("cpu", torch.float32).numpy()
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds values that are no colours (NaN or infinite): look at the node it comes from")
    return (values.clip(0, 1) * 255).round().astype(np.uint8)
