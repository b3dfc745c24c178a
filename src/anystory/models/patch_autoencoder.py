"""A patchifying KL autoencoder: the embedded model's stand-in for SDXL's `AutoencoderKL`.

The picture is folded into patches first (pixel-unshuffle), so no convolution ever runs at full resolution; that is what
makes it train in minutes on a CPU. Each side works at one resolution or at several, halved or doubled in between by
(un)shuffling again. The interface is `AutoencoderKL`'s, so every diffusers pipeline takes it.

Shape suffixes: B samples, H × W pixels, h × w latent positions (h = H / factor), z latent channels.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def _encoder(
    channels: int, latents: int, widths: tuple[int, ...], blocks: tuple[int, ...], groups: int, factor: int
) -> nn.Sequential:
    """Pixels to latents: patches first, then blocks at each resolution, the finest first."""
    patch = factor // 2 ** (len(widths) - 1)
    layers: list[nn.Module] = [nn.PixelUnshuffle(patch), nn.Conv2d(channels * patch**2, widths[0], 3, padding=1)]
    for level, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        if level:
            # A quarter of the width, four times the channels: the folded picture keeps the next width.
            layers += [nn.Conv2d(widths[level - 1], width // 4, 3, padding=1), nn.PixelUnshuffle(2)]
            layers.append(nn.Conv2d(width // 4 * 4, width, 3, padding=1))
        layers += [_ResidualBlock(width, groups) for _ in range(count)]
    last = nn.Conv2d(widths[-1], latents, 3, padding=1)
    return nn.Sequential(*layers, nn.GroupNorm(groups, widths[-1]), nn.SiLU(), last)


def _decoder(
    latents: int, channels: int, widths: tuple[int, ...], blocks: tuple[int, ...], groups: int, factor: int
) -> nn.Sequential:
    """Latents to pixels: blocks at each resolution, the coarsest first, then patches."""
    patch = factor // 2 ** (len(widths) - 1)
    layers: list[nn.Module] = [nn.Conv2d(latents, widths[-1], 3, padding=1)]
    for level in reversed(range(len(widths))):
        layers += [_ResidualBlock(widths[level], groups) for _ in range(blocks[level])]
        if level:
            layers += [nn.Conv2d(widths[level], 4 * widths[level - 1], 3, padding=1), nn.PixelShuffle(2)]
    layers += [nn.GroupNorm(groups, widths[0]), nn.SiLU()]
    return nn.Sequential(*layers, nn.Conv2d(widths[0], channels * patch**2, 3, padding=1), nn.PixelShuffle(patch))


def _sizes(name: str, value: int | Sequence[int], count: int | None = None) -> tuple[int, ...]:
    """One number per resolution, the finest first; a single number is for one resolution, or the same for `count`."""
    sizes = (value,) * (count or 1) if isinstance(value, int) else tuple(value)
    if not sizes or min(sizes) < 1 or (count is not None and len(sizes) != count):
        wanted = "one or more positive numbers" if count is None else f"{count} positive numbers, one per width"
        raise ValueError(f"{name} must be {wanted}, the finest resolution first, got {value}")
    return sizes


class PatchAutoencoder(ModelMixin, AutoencoderMixin, ConfigMixin):
    """Autoencoder with a spatial factor of `2 ** (len(block_out_channels) - 1)`.

    Widths and numbers of blocks are a number each where a side works at the latent's resolution alone, else one per
    resolution, the finest first: `decoder_width=(32, 64, 128)` at factor 8 works at 1/2, 1/4 and 1/8 of the picture's
    side, and its last patches are 2 × 2 pixels.

    Args:
        in_channels: Picture channels (3).
        latent_channels: z, channels of the latent.
        block_out_channels: Only its length counts: diffusers reads the spatial factor from it (3 entries: factor 4).
            The last entry is the decoder's width where `decoder_width` is None.
        encoder_width / decoder_width: Widths of the blocks on each side.
        encoder_blocks / decoder_blocks: Residual blocks on each side.
        norm_num_groups: Groups of every group norm.
        scaling_factor: As in `AutoencoderKL`. Latents are already normalised by the `latent_mean` and `latent_std`
            buffers, so it stays 1.
        force_upcast: As in `AutoencoderKL`; this autoencoder is safe in half precision.

    Pixels are in [-1, 1]. Latents have about zero mean and unit variance per channel once trained.

    Raises:
        ValueError: a width that its number of groups does not divide, or more resolutions than the factor has halvings.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        latent_channels: int = 8,
        block_out_channels: tuple[int, ...] = (128, 128, 128),
        encoder_width: int | tuple[int, ...] = 96,
        encoder_blocks: int | tuple[int, ...] = 2,
        decoder_width: int | tuple[int, ...] | None = None,
        decoder_blocks: int | tuple[int, ...] = 4,
        norm_num_groups: int = 16,
        scaling_factor: float = 1.0,
        force_upcast: bool = False,
    ) -> None:
        super().__init__()
        named = "block_out_channels[-1]" if decoder_width is None else "decoder_width"
        widths = {
            "encoder_width": _sizes("encoder_width", encoder_width),
            named: _sizes(named, block_out_channels[-1] if decoder_width is None else decoder_width),
        }
        self.factor = 2 ** (len(block_out_channels) - 1)
        for name, sizes in widths.items():
            if any(width % norm_num_groups for width in sizes):
                raise ValueError(f"{name} must be divisible by norm_num_groups={norm_num_groups}, got {sizes}")
            if len(sizes) > len(block_out_channels):
                raise ValueError(f"{name} has {len(sizes)} resolutions, but a factor of {self.factor} has fewer")
        into, out = widths.values()
        self.encoder = _encoder(
            in_channels,
            2 * latent_channels,
            into,
            _sizes("encoder_blocks", encoder_blocks, len(into)),
            norm_num_groups,
            self.factor,
        )
        # diffusers' pipelines look at this layer's dtype before they decode.
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)
        self.decoder = _decoder(
            latent_channels,
            in_channels,
            out,
            _sizes("decoder_blocks", decoder_blocks, len(out)),
            norm_num_groups,
            self.factor,
        )
        self.register_buffer("latent_mean", torch.zeros(latent_channels))
        self.register_buffer("latent_std", torch.ones(latent_channels))
        self.use_slicing = False

    @property
    def edges(self) -> tuple[str, ...]:
        """Names of the first and the last layer of each half, as prefixes of their parameters' names."""
        encoder, decoder = len(self.encoder) - 1, len(self.decoder) - 2  # the decoder ends with a shuffle
        return ("encoder.1.", f"encoder.{encoder}.", "post_quant_conv.", "decoder.0.", f"decoder.{decoder}.")

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
