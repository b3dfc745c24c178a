"""What stages 1 and 2 share: the frozen base, the adapter, and a batch's subjects as a `SubjectConditioning`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from anystory.data.stream.cache import SampleCache
from anystory.models.conditioning import SubjectConditioning
from anystory.models.encoders import EncodedSubjects
from anystory.pipelines.loading.from_pretrained import check_image_encoder
from anystory.pipelines.unet.encoding import hidden_states
from anystory.training.data import storyworld
from anystory.training.data.encoder_hashes import hash_encoders
from anystory.training.data.samples import personal_samples
from anystory.training.data.stream import Sample, collate
from anystory.training.launch.devices import recomputed
from anystory.training.model.components import ModelFolder
from anystory.training.stages.common import DiffusionOptions, Share, read_options, sheet, to_pixels
from anystory.training.stages.diffusion import DiffusionStage, of_pictures
from anystory.training.stages.stage import move
from anystory.training.state.sharding import unsharded_adapter
from anystory.training.validation import HELD_OUT


class PersonalOptions(DiffusionOptions):
    """Settings of both personalised stages."""

    clip_drop: Share = 0.1
    """Share of samples whose CLIP tokens are all the background's (paper: 10 %)."""
    max_subjects: int = Field(default=2, ge=1, le=storyworld.MOST_CHARACTERS)
    """Subjects per sample; scenes with more are not drawn."""
    min_subjects: int = Field(default=1, ge=1)
    targets: int = Field(default=1, ge=1, le=16)
    """Pictures per sample, with the same subjects in other poses and places: the references are encoded once for all of
    them. `batch_size` counts samples. The paper's is 1."""
    pictures: int = Field(default=8, ge=1)
    """Held-out samples on the sheet that is drawn now and then."""
    picture_batch: int = Field(default=8, ge=1)
    """How many of them are drawn at a time; guidance doubles that."""

    @model_validator(mode="after")
    def _ordered(self) -> PersonalOptions:
        if self.min_subjects > self.max_subjects:
            raise ValueError(f"min_subjects {self.min_subjects} is more than max_subjects {self.max_subjects}")
        return self


def filled_slots(batch: Sample) -> Sample:
    """A batch without the slots, at the end, that no sample of it fills: they teach nothing, and every layer with
    references would carry them along."""
    used = batch["present"].any(dim=0).nonzero()
    most = int(used.max()) + 1 if len(used) else 1
    of_slots = ("present", "references", "reference_alpha", "reference_latents", "reference_hidden")
    return batch | {key: batch[key][:, :most] for key in of_slots if key in batch}


def target_rows(batch: Sample) -> Sample:
    """A batch with T targets a sample as one with one row per target: what is the target's is flattened, who is in the
    sample is repeated, and references, which are encoded already, are left out."""
    targets = batch["instances"].shape[1]
    of_targets = ("image", "instances", "latents", "detail", "text_hidden", "text_pooled")
    rows = {key: batch[key].flatten(0, 1) for key in of_targets if key in batch}
    rows["present"] = batch["present"].repeat_interleave(targets, dim=0)
    rows["caption"] = [caption for captions in batch["caption"] for caption in captions]
    return rows


class PersonalStage(DiffusionStage):
    """The frozen base with an adapter on it; subclasses choose what is trained and who gates."""

    options_type: type[PersonalOptions] = PersonalOptions
    options: PersonalOptions
    clip_mean: Tensor
    clip_std: Tensor

    def __init__(self, folder: ModelFolder) -> None:
        if folder.base is None and not folder.has("unet"):
            raise ValueError(f"{folder.path} holds no unet: train stage 'base' into this --out first")
        super().__init__(folder)
        self.options = read_options(self.options_type, folder.recipe.stages[self.name].options, self.name)
        self.image_encoder = folder.load("image_encoder")
        extractor = folder.load("feature_extractor")
        self.register_buffer("clip_mean", torch.tensor(extractor.image_mean)[:, None, None], persistent=False)
        self.register_buffer("clip_std", torch.tensor(extractor.image_std)[:, None, None], persistent=False)
        self.adapter = folder.adapter(self.unet)
        self._shown: list[Sample] = []
        check_image_encoder(self.image_encoder, self.adapter)
        if folder.recipe.cache is not None:
            self.texts.rest()  # held-out samples alone are not in the cache
        if folder.base is not None:
            self.use_frozen_type(folder.base.dtype)
        # For as long as the stage lives: with gradient checkpointing the backward pass, too, runs the U-Net's blocks.
        self._installed = ExitStack()
        self._installed.enter_context(self.adapter.installed_on(self.unet))

    def recompute_blocks(self) -> None:
        super().recompute_blocks()
        self.adapter.reference_net.unet.enable_gradient_checkpointing(recomputed)

    def use_frozen_type(self, dtype: torch.dtype) -> None:
        """Make the U-Net, and what of the adapter this stage leaves as it is, `dtype`; what is trained stays fp32."""
        nn.Module.to(self.unet, dtype)
        trained = {id(parameter) for parameter in self.trained_parameters().values()}
        for module in self.adapter.modules():
            for parameter in module.parameters(recurse=False):
                if id(parameter) not in trained:
                    parameter.data = parameter.data.to(dtype)

    def fetch(self) -> Callable[[int], Sample]:
        cache = None
        if self.folder.recipe.cache is not None:
            cache = SampleCache.open(self.folder.recipe.cache, encoders=hash_encoders(self.vae, self.texts))
        return self._samples(cache=cache)

    def held_out(self) -> Callable[[int], Sample]:
        """The same of samples that training does not see, their references as they are."""
        return self._samples(held_out=True)

    def _samples(self, *, held_out: bool = False, cache: SampleCache | None = None) -> Callable[[int], Sample]:
        return personal_samples(
            self.folder.recipe,
            reference_size=self.adapter.sizes.reference_size,
            min_subjects=self.options.min_subjects,
            max_subjects=self.options.max_subjects,
            targets=1 if held_out else self.options.targets,
            held_out=held_out,
            needs_masks=self.needs_masks,
            cache=cache,
        )

    def encode_subjects(self, batch: Sample) -> EncodedSubjects:
        """Both branches of a batch's references; the CLIP and VAE sides are frozen, the adapter's are not."""
        self.check_precision()
        alpha, present = batch["reference_alpha"], batch["present"]
        with torch.no_grad():
            made = batch
            if "references" in batch:
                made = {name: encode(batch["references"]) for name, encode in self.reference_encoders().items()}
            hidden, latents = made["reference_hidden"], made["reference_latents"]
            side = self.image_encoder.config.image_size
            nothing = torch.zeros(1, 3, side, side, device=latents.device)
            zero = self.clip_hidden(nothing)  # zero after normalisation (D10)
            masks = F.interpolate(alpha.flatten(0, 1)[:, None].float() / 255, size=latents.shape[-2:], mode="area")
        return self.adapter.encode(hidden, zero, latents, masks.unflatten(0, present.shape), present)

    def encode_batch(self, batch: Sample) -> tuple[Sample, EncodedSubjects]:
        """A training batch with one row per target and without empty slots, and the subjects of each row; references
        are encoded once."""
        batch = filled_slots(batch)
        encoded, targets = self.encode_subjects(batch), self.options.targets
        if targets == 1:
            return batch, encoded
        return target_rows(batch), encoded.repeat_interleave(targets)

    def check_precision(self) -> None:
        """Raises ValueError where a base in bf16 is run without autocast."""
        if self.unet.dtype != torch.float32 and not torch.is_autocast_enabled(self.device().type):
            raise ValueError(
                f"base.dtype {str(self.unet.dtype).removeprefix('torch.')} trains in bf16 only: say --precision bf16, "
                "or set base.dtype to float32 in the recipe"
            )

    def encoders_ahead(self) -> dict[str, dict[str, Callable[[Tensor], Tensor]]]:
        return super().encoders_ahead() | {"references": self.reference_encoders()}

    def reference_encoders(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """{key of a batch: what makes its value of `references`}: the frozen sides of both branches."""
        return {"reference_latents": of_pictures(self.latents), "reference_hidden": of_pictures(self.seen_by_clip)}

    def seen_by_clip(self, pixels: Tensor) -> Tensor:
        """`clip_hidden` of pixels (B, 3, H, W) in [-1, 1]."""
        return self.clip_hidden(self.clip_pixels(pixels))

    def clip_hidden(self, pixels: Tensor) -> Tensor:
        """Penultimate hidden states (B, P, d) of the image encoder for normalised pixels (B, 3, h, w)."""
        return hidden_states(self.image_encoder, pixels)

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
        return self.diffusion_loss(
            batch,
            generator,
            text=text,
            text_drop=text_drop,
            attention_kwargs={"subject_conditioning": conditioning},
        )

    def held_out_attention(self, batch: Sample) -> Callable[[], dict[str, Any]]:
        encoded = self.encode_subjects(batch)
        return lambda: {"subject_conditioning": self.held_out_conditioning(batch, encoded)}

    def held_out_conditioning(self, batch: Sample, encoded: EncodedSubjects) -> SubjectConditioning:
        """The conditioning of one call in validation, without guidance."""
        raise NotImplementedError

    def picture_conditioning(self, batch: Sample, encoded: EncodedSubjects) -> SubjectConditioning:
        """The conditioning of the logged pictures, for guided sampling."""
        raise NotImplementedError

    def picture_rows(self, pictures: Tensor, conditioning: SubjectConditioning) -> list[list[Tensor]]:
        """Further rows of the logged sheet, below the pictures."""
        return []

    @torch.no_grad()
    def sample_picture(self) -> Image.Image:
        """Scenes from held-out samples: references on top, then what the model draws, then the true pictures."""
        o, rows = self.options, []
        if not self._shown:  # opening a large set for every sheet would take minutes each time
            fetch = self.held_out()
            self._shown = [fetch(HELD_OUT + i) for i in range(o.pictures)]
        for first in range(0, o.pictures, o.picture_batch):
            batch = move(collate(self._shown[first : first + o.picture_batch]), self.device())
            with torch.autocast(self.device().type, torch.bfloat16, enabled=self.holds_bf16()):
                rows.append(self._picture_rows(batch, first))
        return sheet([[picture for part in row for picture in part] for row in zip(*rows, strict=True)], zoom=3)

    def holds_bf16(self) -> bool:
        """Whether weights are bf16: the base's, or copies of those that are trained (`masters: cpu`)."""
        trained = next(iter(self.trained_parameters().values()))
        return torch.bfloat16 in (self.unet.dtype, trained.dtype)

    def _picture_rows(self, batch: Sample, first: int) -> list[list[Tensor]]:
        conditioning = self.picture_conditioning(batch, self.encode_subjects(batch))
        pictures = self.draw(batch, {"subject_conditioning": conditioning}, first)
        side, references = pictures.shape[-1], batch["references"]
        shown = F.interpolate(to_pixels(references.flatten(0, 1)), size=(side, side), mode="area")
        shown = shown.unflatten(0, references.shape[:2])
        rows = [list(shown[:, i]) for i in range(shown.shape[1])]
        return [*rows, list(pictures), *self.picture_rows(pictures, conditioning), list(to_pixels(batch["image"]))]

    def export(self, folder: Path) -> None:
        adapter = unsharded_adapter(self.adapter, keep=self.folder.writes)
        if adapter is not None:
            adapter.note(max_subjects=self.options.max_subjects)
            self.folder.save("adapter", adapter)
