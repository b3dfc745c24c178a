"""A patchifying KL autoencoder: the embedded model's stand-in for SDXL's `AutoencoderKL`.

The picture is folded into patches first (pixel-unshuffle), so no convolution ever runs at full resolution; that is what
makes it train in minutes on a CPU. The interface is `AutoencoderKL`'s, so every diffusers pipeline takes it.

Shape suffixes: B samples, H × W pixels, h × w latent positions (h = H / factor), z latent channels.
"""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import AutoencoderMixin, DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn
from torch.nn import functional as F


class _ResidualBlock(nn.Module):
    """Pre-norm residual block at constant width and resolution."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        # The block starts as the identity: deep stacks then train from the first step.
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class PatchAutoencoder(ModelMixin, AutoencoderMixin, ConfigMixin):
    """Autoencoder with a spatial factor of `2 ** (len(block_out_channels) - 1)`.

    Args:
        in_channels: Picture channels (3).
        latent_channels: z, channels of the latent.
        block_out_channels: Only its length counts: diffusers reads the spatial factor from it (3 entries: factor 4).
            The last entry is the decoder's width.
        encoder_width: Width of the encoder's blocks.
        encoder_blocks / decoder_blocks: Residual blocks on each side.
        norm_num_groups: Groups of every group norm.
        scaling_factor: As in `AutoencoderKL`. Latents are already normalised by the `latent_mean` and `latent_std`
            buffers, so it stays 1.
        force_upcast: As in `AutoencoderKL`; this autoencoder is safe in half precision.

    Pixels are in [-1, 1]. Latents have about zero mean and unit variance per channel once trained.

    Raises:
        ValueError: a width that its number of groups does not divide.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        latent_channels: int = 8,
        block_out_channels: tuple[int, ...] = (128, 128, 128),
        encoder_width: int = 96,
        encoder_blocks: int = 2,
        decoder_blocks: int = 4,
        norm_num_groups: int = 16,
        scaling_factor: float = 1.0,
        force_upcast: bool = False,
    ) -> None:
        super().__init__()
        width = block_out_channels[-1]
        for name, value in (("encoder_width", encoder_width), ("block_out_channels[-1]", width)):
            if value % norm_num_groups:
                raise ValueError(f"{name} must be divisible by norm_num_groups={norm_num_groups}, got {value}")
        self.factor = 2 ** (len(block_out_channels) - 1)
        patch_channels = in_channels * self.factor**2
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(self.factor),
            nn.Conv2d(patch_channels, encoder_width, 3, padding=1),
            *[_ResidualBlock(encoder_width, norm_num_groups) for _ in range(encoder_blocks)],
            nn.GroupNorm(norm_num_groups, encoder_width),
            nn.SiLU(),
            nn.Conv2d(encoder_width, 2 * latent_channels, 3, padding=1),
        )
        # diffusers' pipelines look at this layer's dtype before they decode.
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, width, 3, padding=1),
            *[_ResidualBlock(width, norm_num_groups) for _ in range(decoder_blocks)],
            nn.GroupNorm(norm_num_groups, width),
            nn.SiLU(),
            nn.Conv2d(width, patch_channels, 3, padding=1),
            nn.PixelShuffle(self.factor),
        )
        self.register_buffer("latent_mean", torch.zeros(latent_channels))
        self.register_buffer("latent_std", torch.ones(latent_channels))
        self.use_slicing = False

    @apply_forward_hook
    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        """Pixels (B, 3, H, W) in [-1, 1] to a distribution over latents (B, z, h, w).

        Raises:
            ValueError: H or W is not a multiple of the spatial factor.
        """
        if x.shape[-1] % self.factor or x.shape[-2] % self.factor:
            raise ValueError(f"picture sides must be multiples of {self.factor}, got {tuple(x.shape[-2:])}")
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        mean = (mean - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]
        log_variance = log_variance - 2 * self.latent_std.log()[:, None, None]
        posterior = DiagonalGaussianDistribution(torch.cat([mean, log_variance], dim=1))
        if not return_dict:
            return (posterior,)
        return AutoencoderKLOutput(latent_dist=posterior)

    def _decode(self, z: Tensor) -> Tensor:
        z = z * self.latent_std[:, None, None] + self.latent_mean[:, None, None]
        return self.decoder(self.post_quant_conv(z))

    @apply_forward_hook
    def decode(
        self, z: Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> DecoderOutput | tuple[Tensor]:
        """Latents (B, z, h, w) to pixels (B, 3, H, W), about [-1, 1], not clamped; `generator` is unused."""
        if self.use_slicing and z.shape[0] > 1:
            sample = torch.cat([self._decode(one) for one in z.split(1)])
        else:
            sample = self._decode(z)
        if not return_dict:
            return (sample,)
        return DecoderOutput(sample=sample)

    def forward(
        self, x: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, DiagonalGaussianDistribution]:
        """Reconstruction (B, 3, H, W) of `x` from a sampled latent, and the posterior it was drawn from."""
        posterior: DiagonalGaussianDistribution = self.encode(x, return_dict=False)[0]  # pyright: ignore
        return self._decode(posterior.sample(generator)), posterior

    @torch.no_grad()
    def normalise_latents(self, latents: Tensor) -> None:
        """Set the buffers so that `latents` (B, z, h, w), as `encode` gives them now, become standardised."""
        mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3)).clamp_min(1e-6)
        self.latent_mean.add_(mean * self.latent_std)
        self.latent_std.mul_(std)

    @torch.no_grad()
    def reset_normalisation(self) -> None:
        """Undo `normalise_latents`: latents come as the encoder makes them."""
        self.latent_mean.zero_()
        self.latent_std.fill_(1.0)
