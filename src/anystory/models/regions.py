"""Fixed regions and the resizing of maps (D7).

Shapes: B samples, N subjects, S = N + 1 slots with the background last, H × W mask size, h × w a layer's map size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]


def allowed_slots(regions: Tensor, given: Tensor, size: Size) -> Tensor:
    """Which slots a pixel may belong to.

    Inside a fixed region: the subjects whose region it is. Elsewhere: background and subjects without one.

    Args:
        regions: (B, N, H, W) in [0, 1].
        given: (B, N) bool: whose region counts.
        size: (h, w) of the result.

    Returns:
        (B, N + 1, h, w) bool; no pixel is left without a slot.
    """
    given = given.to(regions.device)[:, :, None, None]
    covered = resize(regions.float(), size)
    # A region too small for this size keeps the pixels that it covers most, rather than none.
    inside = given & (covered > 0) & (covered >= covered.amax(dim=(2, 3), keepdim=True).clamp(max=0.5))
    free = ~inside.any(dim=1, keepdim=True)
    return torch.cat([torch.where(given, inside, free), free], dim=1)


def resize(masks: Tensor, size: Size) -> Tensor:
    """Bilinear, antialiased resize of (B, S, H, W) in float32 (D7)."""
    if masks.shape[-2:] == size:
        return masks
    return F.interpolate(masks, size=size, mode="bilinear", antialias=True, align_corners=False)
