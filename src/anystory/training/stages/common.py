"""What several stages share: options, text encoding, pictures as tensors, noise, sample sheets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTokenizer

Share = Annotated[float, Field(ge=0, le=1)]
"""A share of the samples, 0 to 1."""


class StageOptions(BaseModel):
    """Base of a stage's own options: unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NoiseOptions(StageOptions):
    """Which noise levels a diffusion loss sees."""

    timestep_std: float = Field(default=0.0, ge=0)
    """0: all time steps alike. Else their logits are normal with this deviation (Esser et al. 2024, section 3.1): on
    small latents the upper third of SDXL's steps is all but pure noise, and little is learned there."""
    timestep_mean: float = 0.0
    """Mean of the logits; below 0 favours less noise."""
    timestep_uniform: Share = 0.1
    """Share of the samples that are drawn from all time steps alike nevertheless."""
    min_snr_gamma: float | None = Field(default=None, gt=0)
    """γ of the min-SNR weights (Hang et al. 2023; they use 5): steps with little noise count less. None: all alike."""

    def timesteps(self, count: int, steps: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """Integer time steps (count,) in [0, steps)."""
        uniform = torch.randint(steps, (count,), generator=generator, device=device)
        if not self.timestep_std:
            return uniform
        logits = torch.randn(count, generator=generator, device=device) * self.timestep_std + self.timestep_mean
        favoured = (logits.sigmoid() * steps).long().clamp(max=steps - 1)
        spread = torch.rand(count, generator=generator, device=device) < self.timestep_uniform
        return torch.where(spread, uniform, favoured)


class DiffusionOptions(NoiseOptions):
    """What a diffusion loss sees and what counts in it."""

    caption_drop: Share = 0.1
    """Share of samples without text, for classifier-free guidance."""
    foreground_weight: float = Field(default=0.0, ge=0)
    """Extra weight of the loss on characters, which cover little of the picture and hold most of what is looked at."""
    detail_weight: float = Field(default=0.0, ge=0)
    """Extra weight on what is small and full of contrast on them, such as eyes and emblems: this many times
    `picture_detail`, which is 0.3 for an eye of StoryWorld and 0.1 on a character's average."""


O = TypeVar("O", bound=BaseModel)  # noqa: E741


def read_options(kind: type[O], values: dict[str, Any], stage: str) -> O:
    """Check a stage's options.

    Raises:
        ValueError: names the stage, the option and what is wrong.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ValueError(f"options of stage {stage!r}: {problems}") from error


def to_pixels(images: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) to floats (B, 3, H, W) in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float().div(127.5).sub(1.0)


_SMALL = 256
"""Pictures up to this side are enlarged to be looked at."""


def to_image(pixels: Tensor) -> Image.Image:
    """Floats (3, H, W) in [-1, 1] to a picture."""
    array = ((pixels.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte()
    return Image.fromarray(array.permute(1, 2, 0).numpy())


def sheet(rows: Sequence[Sequence[Tensor]], zoom: int = 2) -> Image.Image:
    """A grid of pictures (3, H, W) in [-1, 1], small ones enlarged without smoothing."""
    zoom = zoom if rows[0][0].shape[-1] <= _SMALL else 1
    strips = [torch.cat([p.detach().float().cpu() for p in row], dim=2) for row in rows]
    image = to_image(torch.cat(strips, dim=1))
    return image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST)


def tokenize(tokenizer: CLIPTokenizer, captions: Sequence[str], device: torch.device) -> Tensor:
    """Token ids (B, L), padded to the tokenizer's length as the SDXL pipeline pads them."""
    return tokenizer(
        list(captions),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids.to(device)


def drop_text(hidden: Tensor, pooled: Tensor, drop: Tensor) -> tuple[Tensor, Tensor]:
    """Zero the text where `drop` (B,) is true: SDXL's unconditional input (`force_zeros_for_empty_prompt`)."""
    keep = (~drop).to(hidden.dtype)
    return hidden * keep[:, None, None], pooled * keep[:, None]


def size_condition(batch: int, resolution: int, device: torch.device) -> Tensor:
    """SDXL's six size numbers (B, 6): original size, crop corner, target size, as the pipeline fills them."""
    row = torch.tensor([resolution, resolution, 0, 0, resolution, resolution], dtype=torch.float32, device=device)
    return row.expand(batch, 6)


def unet_output(
    unet: UNet2DConditionModel,
    noisy: Tensor,
    t: Tensor,
    text: tuple[Tensor, Tensor],
    sizes: Tensor,
    attention_kwargs: dict[str, Any] | None = None,
) -> Tensor:
    """What a U-Net makes of noisy latents (B, z, h, w) at time steps (B,), in its own type.

    `text` is hidden states (B, L, d) and pooled (B, p); `sizes` SDXL's six size numbers (B, 6).
    """
    (hidden, pooled), dtype = text, unet.dtype
    added = {"text_embeds": pooled.to(dtype), "time_ids": sizes}
    return unet(
        noisy.to(dtype), t, hidden.to(dtype), added_cond_kwargs=added, cross_attention_kwargs=attention_kwargs
    ).sample


class NoiseSchedule:
    """The forward process of a scheduler's betas by discrete time step, and what the model predicts of it.

    Args:
        scheduler: one of diffusers' with betas.

    Raises:
        ValueError: the scheduler's prediction type is neither `v_prediction` nor `epsilon`.
    """

    def __init__(self, scheduler: Any) -> None:
        self.steps: int = scheduler.config["num_train_timesteps"]
        self.prediction: str = scheduler.config["prediction_type"]
        if self.prediction not in ("v_prediction", "epsilon"):
            raise ValueError(f"prediction_type must be v_prediction or epsilon to train, got {self.prediction!r}")
        alphas = scheduler.alphas_cumprod.double()
        self.signal = alphas.sqrt().float()
        self.noise = (1 - alphas).sqrt().float()

    def _at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """√ᾱ and √(1−ᾱ) at integer steps `t` (B,), fp32, on its device."""
        if self.signal.device != t.device:
            self.signal, self.noise = self.signal.to(t.device), self.noise.to(t.device)
        return self.signal[t], self.noise[t]

    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Noisy latents √ᾱ·x + √(1−ᾱ)·ε at integer steps `t` (B,), and the target.

        The target is the noise, or the velocity √ᾱ·ε − √(1−ᾱ)·x (Salimans & Ho 2022).
        """
        alpha, sigma = (value.to(clean)[:, None, None, None] for value in self._at(t))
        target = noise if self.prediction == "epsilon" else alpha * noise - sigma * clean
        return alpha * clean + sigma * noise, target

    def clean(self, noisy: Tensor, predicted: Tensor, t: Tensor) -> Tensor:
        """The clean latents that a prediction (B, z, h, w) of `add_noise`'s target means, at integer steps `t` (B,)."""
        alpha, sigma = (value.to(noisy)[:, None, None, None] for value in self._at(t))
        if self.prediction == "epsilon":
            return (noisy - sigma * predicted) / alpha
        return alpha * noisy - sigma * predicted

    def min_snr_weight(self, t: Tensor, gamma: float) -> Tensor:
        """Min-SNR-γ weights (B,) of the squared error at integer steps `t` (Hang et al. 2023, section 3.4).

        min(SNR, γ) / SNR where the noise is predicted, min(SNR, γ) / (SNR + 1) for the velocity; SNR = ᾱ / (1−ᾱ).
        """
        alpha, sigma = self._at(t)
        signal, noise = alpha.square(), sigma.square()  # multiplied through by 1−ᾱ: no division by zero at either end
        kept = torch.minimum(signal, gamma * noise)
        return kept / signal.clamp_min(1e-12) if self.prediction == "epsilon" else kept / (signal + noise)


def picture_detail(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """How much pictures (B, 3, H, W) in [-1, 1] vary inside each cell of their latents: variances (B, h, w) in [0, 1].

    Flat colour has none, an edge some; eyes and emblems, small and full of contrast, have most.
    """
    mean, square = (F.interpolate(values, size=size, mode="area") for values in (pixels, pixels.square()))
    return (square - mean.square()).mean(dim=1).clamp(0, 1)


def weighted_mse(
    prediction: Tensor,
    target: Tensor,
    foreground: Tensor,
    extra: float | Tensor,
    sample_weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean squared error with `1 + extra` weight on characters and 1 elsewhere, and the plain one for the log.

    `foreground` is (B, H, W) in [0, 1] at any size, `extra` a number of at least 0 or a map of such (B, h, w) at the
    prediction's. These weights average to one, so the learning rate keeps its meaning; `sample_weight` (B,), the noise
    level's own, multiplies the error as it is.
    """
    error = (prediction.float() - target.float()).square().mean(dim=1)
    plain = error.mean()
    if sample_weight is not None:
        error = error * sample_weight[:, None, None]
    if not isinstance(extra, Tensor) and extra == 0:
        return error.mean() if sample_weight is not None else plain, plain.detach()
    area = F.interpolate(foreground[:, None].float(), size=error.shape[-2:], mode="area")[:, 0]
    weight = 1 + area * extra
    return (error * weight).sum() / weight.sum(), plain.detach()


def seeded_normal(shape: Sequence[int], seed: int, device: torch.device) -> Tensor:
    """Standard normal numbers from a seed, the same on every device."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed)).to(device)
