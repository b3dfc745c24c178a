"""What stages 1 and 2 share: the frozen base, the adapter, and a batch's subjects as a `SubjectConditioning`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from anystory.models.conditioning import SubjectConditioning
from anystory.models.encoders import EncodedSubjects

from .. import data
from ..components import ModelFolder
from ..loop import move
from ..stream import Sample, collate
from .common import NoiseOptions, Share, sheet, to_pixels
from .diffusion import DiffusionStage


class PersonalOptions(NoiseOptions):
    """Settings of both personalised stages."""

    caption_drop: Share = 0.1
    clip_drop: Share = 0.1
    """Share of samples whose CLIP tokens are all the background's (paper: 10 %)."""
    foreground_weight: float = Field(default=0.0, ge=0)
    max_subjects: int = Field(default=2, ge=1, le=data.MOST_CHARACTERS)
    """Subjects per sample; scenes with more are not drawn."""
    min_subjects: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> PersonalOptions:
        if self.min_subjects > self.max_subjects:
            raise ValueError(f"min_subjects {self.min_subjects} is more than max_subjects {self.max_subjects}")
        return self


class PersonalStage(DiffusionStage):
    """The frozen base with an adapter on it; subclasses choose what is trained and who gates."""

    options: PersonalOptions
    clip_mean: Tensor
    clip_std: Tensor

    def __init__(self, folder: ModelFolder) -> None:
        if not folder.has("unet"):
            raise ValueError(f"{folder.path} holds no unet: train stage 'base' into this --out first")
        super().__init__(folder)
        self.image_encoder = folder.load("image_encoder")
        extractor = folder.load("feature_extractor")
        self.register_buffer("clip_mean", torch.tensor(extractor.image_mean)[:, None, None], persistent=False)
        self.register_buffer("clip_std", torch.tensor(extractor.image_std)[:, None, None], persistent=False)
        self.adapter = folder.load_or_build("adapter")

    def fetch(self) -> Callable[[int], Sample]:
        recipe = self.folder.recipe
        return partial(
            data.personal_sample,
            level=recipe.level,
            size=recipe.resolution,
            reference_size=self.adapter.sizes.reference_size,
            seed=recipe.seed,
            min_subjects=self.options.min_subjects,
            max_subjects=self.options.max_subjects,
        )

    def encode_subjects(self, batch: Sample) -> EncodedSubjects:
        """Both branches of a batch's references; the CLIP and VAE sides are frozen, the adapter's are not."""
        references, alpha, present = batch["references"], batch["reference_alpha"], batch["present"]
        count, subjects = present.shape
        pixels = to_pixels(references.flatten(0, 1))
        with torch.no_grad():
            clip_pixels = self.clip_pixels(pixels)
            hidden = self.clip_hidden(clip_pixels)
            zero = self.clip_hidden(torch.zeros_like(clip_pixels[:1]))  # zero after normalisation (D10)
            latents = self.latents(pixels)
            masks = F.interpolate(alpha.flatten(0, 1)[:, None].float() / 255, size=latents.shape[-2:], mode="area")
        return self.adapter.encode(
            hidden.unflatten(0, (count, subjects)),
            zero,
            latents.unflatten(0, (count, subjects)),
            masks.unflatten(0, (count, subjects)),
            present,
        )

    def clip_hidden(self, pixels: Tensor) -> Tensor:
        """Penultimate hidden states (B, P, d) of the image encoder for normalised pixels (B, 3, h, w)."""
        return self.image_encoder(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]

    def clip_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [-1, 1] as the image encoder wants them: its size, its mean and deviation."""
        size = self.image_encoder.config.image_size
        if pixels.shape[-1] != size:
            pixels = F.interpolate(pixels, size=(size, size), mode="bicubic", antialias=True)
        return ((pixels + 1) / 2 - self.clip_mean) / self.clip_std

    def instance_masks(self, batch: Sample) -> Tensor:
        """One mask per subject (B, N, H, W), float 0 or 1, from the instance ids 1…N (0 is the background)."""
        ids = torch.arange(1, batch["present"].shape[1] + 1, device=batch["instances"].device)
        return (batch["instances"][:, None] == ids[None, :, None, None]).float()

    def diffusion(
        self, batch: Sample, generator: torch.Generator, conditioning: SubjectConditioning, text_drop: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Diffusion loss of the conditioned U-Net: weighted, and plain for the log."""
        with torch.no_grad():
            text = self.text(batch)
        with self.adapter.installed_on(self.unet):
            return self.diffusion_loss(
                batch,
                generator,
                text=text,
                text_drop=text_drop,
                foreground_weight=self.options.foreground_weight,
                attention_kwargs={"subject_conditioning": conditioning},
            )

    def picture_conditioning(self, batch: Sample, encoded: EncodedSubjects) -> SubjectConditioning:
        """The conditioning of the logged pictures, for guided sampling."""
        raise NotImplementedError

    def picture_rows(self, pictures: Tensor, conditioning: SubjectConditioning) -> list[list[Tensor]]:
        """Further rows of the logged sheet, below the pictures."""
        return []

    @torch.no_grad()
    def sample_picture(self) -> Image.Image:
        """Eight scenes from held-out identities: references on top, then what the model draws, then the drawn truth."""
        fetch: Any = self.fetch()
        fetch = partial(fetch.func, **{**fetch.keywords, "split": "heldout", "augment": False})
        batch = move(collate([fetch(2**40 + i) for i in range(8)]), self.device())
        conditioning = self.picture_conditioning(batch, self.encode_subjects(batch))
        with self.adapter.installed_on(self.unet):
            pictures = self.draw(batch, {"subject_conditioning": conditioning})
        side = pictures.shape[-1]
        references = batch["references"].flatten(0, 1)
        shown = F.interpolate(to_pixels(references), size=(side, side), mode="area").unflatten(0, (8, -1))
        rows = [list(shown[:, i]) for i in range(shown.shape[1])]
        rows += [list(pictures), *self.picture_rows(pictures, conditioning), list(to_pixels(batch["image"]))]
        return sheet(rows, zoom=3)

    def export(self, folder: Path) -> None:
        self.folder.save("adapter", self.adapter)
