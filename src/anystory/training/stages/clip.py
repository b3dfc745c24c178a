"""Stage `clip`: text and image encoders by contrast (Radford et al. 2021), on StoryWorld.

Two kinds of pairs, each contrasted within itself: a reference over white with a description of the identity, and a
scene with its caption. Descriptions name what captions never say (colours, pattern, wear), as texts on the web do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from anystory.training.data import storyworld
from anystory.training.data.samples import world_samples
from anystory.training.data.stream import Sample, collate
from anystory.training.model.components import ModelFolder
from anystory.training.stages.common import StageOptions, read_options, sheet, to_pixels, tokenize
from anystory.training.stages.stage import Stage


class ClipOptions(StageOptions):
    """Settings of the contrast."""

    scene_weight: float = Field(default=0.25, ge=0, le=1)
    """Weight of scene–caption pairs; the rest is for reference–description pairs."""
    scene_share: float = Field(default=0.25, gt=0, le=1)
    """Scene–caption pairs per reference–description pair: what the adapter reads is references."""
    max_logit_scale: float = 100.0


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric cross-entropy over a batch of pairs, and the share of images that find their text.

    `images`, `texts`: (B, p), normalised here. Texts that are equal to the letter are rare and count as misses.
    """
    logits = scale * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    labels = torch.arange(len(logits), device=logits.device)
    loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    return loss, (logits.argmax(dim=1) == labels).float().mean()


class ClipStage(Stage):
    """InfoNCE between pictures and texts."""

    name = "clip"
    options_type = ClipOptions

    def __init__(self, folder: ModelFolder) -> None:
        super().__init__()
        self.folder = folder
        self.options = read_options(ClipOptions, folder.recipe.stages["clip"].options, "clip")
        self.tokenizer = folder.load_or_build("tokenizer_2")
        self.text_encoder = folder.load_or_build("text_encoder_2")
        self.image_encoder = folder.load_or_build("image_encoder")
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        return {
            **{f"text_encoder.{k}": p for k, p in self.text_encoder.named_parameters()},
            **{f"image_encoder.{k}": p for k, p in self.image_encoder.named_parameters()},
            "logit_scale": self.logit_scale,
        }

    def fetch(self) -> Callable[[int], Sample]:
        return world_samples(self.folder.recipe, storyworld.contrast_sample)

    def begin(self, *, resumed: bool) -> None:
        """Write the tokenizer: the text encoder learns what its word ids mean."""
        if not self.folder.has("tokenizer_2"):
            if resumed:
                raise ValueError(
                    "the run's model/tokenizer_2 is gone, whose word ids the checkpoint of stage 'clip' was trained "
                    "with: remove the run's folder clip to start this stage over"
                )
            if self.folder.writes:
                self.folder.save("tokenizer_2", self.tokenizer)
        elif not resumed:
            self._check_tokenizer()

    def _check_tokenizer(self) -> None:
        """One that the folder holds already may be left from a start with another recipe."""
        recipe = self.folder.recipe
        assert recipe.level is not None  # a recipe with this stage has one
        unknown = [word for word in storyworld.level_words(recipe.level) if len(self.tokenizer.tokenize(word)) != 1]
        length = self.tokenizer.model_max_length
        if unknown or length != recipe.max_text_tokens:
            found = f"{len(unknown)} of its words are not one token ({', '.join(unknown[:3])} …)" if unknown else ""
            found = found or f"it has {length} tokens a text, not {recipe.max_text_tokens}"
            raise ValueError(
                f"{self.folder.path / 'tokenizer_2'} was not made for recipe {recipe.name!r} and {recipe.level}: "
                f"{found}. Remove it to have one made, or choose another --out"
            )

    def forward(self, batch: Sample, generator: torch.Generator) -> dict[str, Tensor]:
        count = len(batch["caption"])
        scenes = max(1, round(count * self.options.scene_share))
        pixels = to_pixels(torch.cat([batch["reference"], batch["scene"][:scenes]]))
        ids = tokenize(self.tokenizer, [*batch["description"], *batch["caption"][:scenes]], pixels.device)
        images = self.image_encoder(pixel_values=pixels).image_embeds
        texts = self.text_encoder(ids).text_embeds
        scale = self.logit_scale.exp().clamp(max=self.options.max_logit_scale)
        reference, reference_hits = contrastive_loss(images[:count], texts[:count], scale)
        scene, scene_hits = contrastive_loss(images[count:], texts[count:], scale)
        weight = self.options.scene_weight
        loss = (1 - weight) * reference + weight * scene
        return {"loss": loss, "reference_hits": reference_hits, "scene_hits": scene_hits, "scale": scale.detach()}

    @torch.no_grad()
    def sample_picture(self) -> Image.Image:
        """Top row: references; below: for each one's description, the two references that fit it best of the row."""
        fetch = self.fetch()
        batch = collate([fetch(2**40 + i) for i in range(12)])
        pixels = to_pixels(batch["reference"]).to(self.logit_scale.device)
        ids = tokenize(self.tokenizer, batch["description"], pixels.device)
        images = F.normalize(self.image_encoder(pixel_values=pixels).image_embeds, dim=-1)
        texts = F.normalize(self.text_encoder(ids).text_embeds, dim=-1)
        best = (texts @ images.T).topk(2, dim=1).indices
        return sheet([list(pixels), list(pixels[best[:, 0]]), list(pixels[best[:, 1]])])

    def export(self, folder: Path) -> None:
        self.folder.save("tokenizer_2", self.tokenizer)
        self.folder.save("text_encoder_2", self.text_encoder)
        self.folder.save("image_encoder", self.image_encoder)
        self.folder.save("feature_extractor", self.folder.load_or_build("feature_extractor"))
