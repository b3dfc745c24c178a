"""A PatchGAN discriminator (Isola et al. 2017): whether each patch of a picture looks like a real one."""

from __future__ import annotations

from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Three strided convolutions, then a score per patch of about 30 × 30 pixels.

    Args:
        width: channels after the first convolution, a multiple of 4; they double twice.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.GroupNorm(width // 4, 2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, 2, 1),
            nn.GroupNorm(width // 4, 4 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 3, 1, 1),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Scores (B, 1, H / 8, W / 8) of pictures (B, 3, H, W) in [-1, 1]; above 0 is real."""
        return self.net(pixels)
