"""A stage and a batch on the meta device: every shape and type of a real run, and no numbers."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import (
    CLIPImageProcessorPil,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from anystory.evaluation.bench.networks import SDXL, Networks
from anystory.evaluation.plan.meter import LikeAGpu
from anystory.models.adapter import SubjectAdapter
from anystory.models.encoders import EncodedSubjects
from anystory.models.patch_autoencoder import PatchAutoencoder
from anystory.training.data.stream import Sample
from anystory.training.model.components import BUILDERS, ModelFolder
from anystory.training.recipe import PERSONAL_STAGES, BaseRecipe, Recipe, StageName
from anystory.training.stages import build_stage
from anystory.training.stages.personal import PersonalStage

META = torch.device("meta")

_CLASSES: dict[str, Any] = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": (CLIPTextModel, CLIPTextConfig),
    "text_encoder_2": (CLIPTextModelWithProjection, CLIPTextConfig),
    "image_encoder": (CLIPVisionModelWithProjection, CLIPVisionConfig),
}


class MetaFolder(ModelFolder):
    """A recipe's components without weights: a base that is a folder here by its configuration files, SDXL's own sizes
    for one that is not (a hub id, a single file)."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(Path("/nonexistent"), recipe.model_copy(update={"start": recipe.start or "planned"}))

    def has(self, component: str) -> bool:
        return self.base is None  # a run's own folder has what earlier stages have made

    def load_if_any(self, component: str) -> Any:
        if component == "feature_extractor":
            return CLIPImageProcessorPil()
        if component.startswith("tokenizer"):
            return object()  # captions never come this far
        if self.base is None:
            return None if component == "text_encoder" else self._build(component)
        if component == "scheduler":
            return EulerDiscreteScheduler(prediction_type="epsilon")
        dtype = {"vae": self.base.base.vae_dtype, "unet": "float32"}.get(component, self.base.base.dtype)
        with META:
            part = _of_base(component, self.base.base)
        return None if part is None else nn.Module.to(part, getattr(torch, dtype)).eval().requires_grad_(False)

    def load(self, component: str) -> Any:
        return self.load_if_any(component)

    def adapter(self, unet: UNet2DConditionModel) -> SubjectAdapter:
        return SubjectAdapter.from_unet(unet, self.recipe.adapter.config())

    def _build(self, component: str) -> Any:
        if component == "scheduler":
            return BUILDERS[component](self)
        recipe = self.recipe
        with META:
            if component == "text_encoder_2":  # the vocabulary has no part in what is counted
                config = CLIPTextConfig(max_position_embeddings=recipe.max_text_tokens, **recipe.text_encoder)
                return CLIPTextModelWithProjection(config).eval()
            return PatchAutoencoder(**recipe.autoencoder).eval() if component == "vae" else BUILDERS[component](self)


def _of_base(component: str, base: BaseRecipe) -> Any:
    folder = Path(base.source) / component
    if component == "image_encoder" and base.image_encoder is not None:
        folder = Path(base.image_encoder)
        folder = folder if (folder / "config.json").is_file() else folder / component
    kind = _CLASSES[component]
    if (folder / "config.json").is_file():
        if isinstance(kind, tuple):
            return kind[0](kind[1].from_pretrained(folder))
        return kind.from_config(kind.load_config(folder))
    if Path(base.source).is_dir() and component == "text_encoder":
        return None
    networks = Networks(sizes=SDXL, device=META)
    if component in ("text_encoder", "text_encoder_2"):
        return networks.text_encoders[component == "text_encoder_2"]
    return getattr(networks, component)


def meta_stage(recipe: Recipe, name: StageName, gpu: LikeAGpu) -> PersonalStage:
    """The stage as a run builds it, without weights, to be run inside `gpu`.

    Raises:
        ValueError: a stage whose cost cannot be counted.
    """
    if name not in PERSONAL_STAGES:
        raise ValueError(f"stage {name!r} cannot be planned: {' and '.join(PERSONAL_STAGES)} can")
    stage = build_stage(name, MetaFolder(recipe))
    assert isinstance(stage, PersonalStage)
    stage.to(META)
    if recipe.stages[name].gradient_checkpointing:
        # The backward pass leaves `gpu`: the blocks that it runs again enter it themselves.
        again = partial(_recomputed, gpu)
        stage.unet.enable_gradient_checkpointing(again)
        stage.adapter.reference_net.unet.enable_gradient_checkpointing(again)
    encode = stage.encode_subjects

    def encode_subjects(batch: Sample) -> EncodedSubjects:
        encoded = encode(batch)
        return replace(encoded, present=encoded.present.to(META))

    # `gpu` stands in for autocast, which the meta device has not.
    stage.check_precision = lambda: None
    if stage.folder.base is not None:
        stage.vae_precision = lambda device: gpu.exact()
    stage.encode_subjects = encode_subjects  # pyright: ignore[reportAttributeAccessIssue]
    return stage


def _recomputed(gpu: LikeAGpu, block: Any, *arguments: Any) -> Any:
    return checkpoint(block, *arguments, use_reentrant=False, context_fn=lambda: (nullcontext(), gpu))


def meta_batch(stage: PersonalStage, count: int, *, cached: bool) -> Sample:
    """A batch of `count` samples with all the subjects that the stage takes.

    Args:
        stage: on the meta device.
        count: B.
        cached: latents and text embeddings stand in for pictures and captions.
    """
    side, reference = stage.folder.recipe.resolution, stage.adapter.sizes.reference_size
    subjects, targets = stage.options.max_subjects, stage.options.targets
    per_sample = (targets,) if targets > 1 else ()
    tokens = stage.texts.pooled.config.max_position_embeddings

    def pixels(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.uint8, device=META)

    batch: Sample = {
        "caption": [""] * count if targets == 1 else [[""] * targets] * count,
        "instances": pixels(count, *per_sample, side, side),
        "references": pixels(count, subjects, reference, reference, 3),
        "reference_alpha": pixels(count, subjects, reference, reference),
        "present": torch.ones(count, subjects, dtype=torch.bool),  # real: the encoders choose by it
    }
    if cached:
        latent, channels = stage.latent_size, stage.unet.config["in_channels"]
        batch["latents"] = torch.empty(count, channels, latent, latent, device=META)
        batch["text_hidden"] = torch.empty(count, tokens, stage.unet.config["cross_attention_dim"], device=META)
        pooled: Any = stage.texts.pooled.config.projection_dim
        batch["text_pooled"] = torch.empty(count, pooled, device=META)
    else:
        batch["image"] = pixels(count, *per_sample, side, side, 3)
        ids = torch.zeros(count * targets, tokens, dtype=torch.int64, device=META)

        def text(_: Sample) -> tuple[Tensor, Tensor]:
            return stage.texts.encode_ids([ids] * len(stage.texts.encoders))

        stage.text = text  # pyright: ignore[reportAttributeAccessIssue]
    return batch
