"""One character, enlarged: a square around its mask, resampled to a fixed size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anystory.storyworld.attribute_classifier.config import ClassifierConfig

_MARGIN = 1.1
"""Side of the square, in longer sides of the mask's box."""
_SMALLEST = 16.0
"""Shortest side of the square, in pixels."""


def squares_around(masks: Tensor) -> Tensor:
    """Squares (B, 3) around masks (B, H, W): x and y of the middle and the side, in pixels.

    An empty mask gets the whole picture.
    """
    height, width = masks.shape[1:]
    filled = masks > 0.5
    empty = ~filled.flatten(1).any(dim=1)
    ends = []
    for along, length in ((filled.any(dim=1), width), (filled.any(dim=2), height)):
        positions = torch.arange(length, device=masks.device)
        low = torch.where(along, positions, length).amin(dim=1)
        high = torch.where(along, positions + 1, 0).amax(dim=1)
        ends.append((torch.where(empty, 0, low).float(), torch.where(empty, length, high).float()))
    (x0, x1), (y0, y1) = ends
    side = (_MARGIN * torch.maximum(x1 - x0, y1 - y0)).clamp_min(_SMALLEST)
    return torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, side], dim=1)


def chests_of(squares: Tensor, chest: tuple[float, float, float]) -> Tensor:
    """Squares (B, 3) around the chests of characters in `squares` (B, 3); `chest` as `ClassifierConfig` has it."""
    x, y, side = squares.unbind(dim=1)
    return torch.stack([x + (chest[0] - 0.5) * side, y + (chest[1] - 0.5) * side, chest[2] * side], dim=1)


def crop_characters(images: Tensor, masks: Tensor, squares: Tensor, size: int) -> Tensor:
    """Cut squares out of pictures and resample them; beyond the edge everything is 0.

    Args:
        images: (B, 3, H, W) in [-1, 1].
        masks: (B, H, W), 0 to 1.
        squares: (B, 3) as `squares_around` gives them.
        size: K.

    Returns:
        (B, 4, K, K): RGB and the mask, -1 where it is 0.
    """
    height, width = images.shape[-2:]
    layers = torch.cat([images, masks[:, None].to(images.dtype) * 2 - 1], dim=1)
    x, y, side = squares.unbind(dim=1)
    nothing = torch.zeros_like(x)
    matrix = torch.stack(
        [
            torch.stack([side / width, nothing, 2 * x / width - 1], dim=1),
            torch.stack([nothing, side / height, 2 * y / height - 1], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(matrix, [len(images), 4, size, size], align_corners=False)
    return F.grid_sample(layers, grid.to(layers.dtype), mode="bilinear", align_corners=False)


def crops_of(images: Tensor, masks: Tensor, squares: Tensor, config: ClassifierConfig) -> tuple[Tensor, Tensor]:
    """What `CharacterNet` reads: the crops of characters (B, 4, K, K) and those of their chests (B, 4, k, k)."""
    chests = chests_of(squares, config.chest)
    whole = crop_characters(images, masks, squares, config.crop)
    close = crop_characters(images, masks, chests, config.chest_crop)
    layout = torch.channels_last
    return whole.contiguous(memory_format=layout), close.contiguous(memory_format=layout)
