"""A run's components: built fresh from a recipe, read from a base that exists, or from the run's own model folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from diffusers.configuration_utils import ConfigMixin, FrozenDict
from torch import nn
from transformers import (
    CLIPImageProcessorPil,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from anystory.files import atomic_folder, atomic_write, recover_folder
from anystory.input_files import damaged_files_named
from anystory.models.adapter import SubjectAdapter
from anystory.models.configs import AdapterConfig
from anystory.models.patch_autoencoder import PatchAutoencoder
from anystory.pipelines.loading.parts import load_adapter, read_adapter_sizes
from anystory.pipelines.schedulers import FOR_LATENTS, rescheduled, scheduler_class
from anystory.training.data.storyworld import level_words
from anystory.training.model.base_parts import BaseParts
from anystory.training.model.tokenizer import build_tokenizer
from anystory.training.recipe import Recipe

LOADERS: dict[str, Any] = {
    "vae": PatchAutoencoder,
    "tokenizer_2": CLIPTokenizer,
    "text_encoder_2": CLIPTextModelWithProjection,
    "image_encoder": CLIPVisionModelWithProjection,
    "feature_extractor": CLIPImageProcessorPil,
    "unet": UNet2DConditionModel,
    "scheduler": EulerDiscreteScheduler,
    "adapter": SubjectAdapter,
}


class ModelFolder:
    """A run's model: components are read from `path` where they exist, from the recipe's base where it has one, and
    else made from the recipe."""

    def __init__(self, path: Path, recipe: Recipe, writes: bool = True) -> None:
        self.path, self.recipe = path, recipe
        self.writes = writes
        """Whether this process is the one that writes the folder."""
        self.base = None if recipe.base is None else BaseParts(recipe.base)

    def has(self, component: str) -> bool:
        """Whether the folder holds this component."""
        recover_folder(self.path / component)
        return (self.path / component).is_dir()

    def load(self, component: str) -> Any:
        """Read one component, in evaluation mode: fp32 from the folder, as the recipe says from a base.

        Raises:
            ValueError: it is not there (the message says which stage makes it), or has other sizes than the recipe.
        """
        loaded = self.load_if_any(component)
        if loaded is None and self.base is not None and component in LOADERS and component != "adapter":
            raise ValueError(f"{self.base.base.source} has no {component}, which training needs")
        if loaded is None:
            stage = {"vae": "vae", "unet": "base", "adapter": "encoder"}.get(component, "clip")
            raise ValueError(f"{self.path} holds no {component}: train stage {stage!r} into this --out first")
        return loaded

    def load_if_any(self, component: str) -> Any:
        """The same; None where there is none, as the first text encoder in some models.

        Raises:
            ValueError: it has other sizes than the recipe.
        """
        if component in LOADERS and self.has(component):
            with damaged_files_named(self.path / component):
                loaded = self._kind(component).from_pretrained(self.path / component)
            if component in ("vae", "unet"):
                self._check_sizes(component, loaded.config)
            return loaded.float().eval() if isinstance(loaded, nn.Module) else loaded
        return self.base.load(component) if self.base is not None and component != "adapter" else None

    def load_or_build(self, component: str) -> Any:
        """Read one component, or make it fresh from the recipe (seeded, without touching the global random state)."""
        if self.has(component) or (self.base is not None and component != "adapter"):
            return self.load(component)
        return self.seeded(lambda: BUILDERS[component](self))

    def adapter(self, unet: UNet2DConditionModel) -> SubjectAdapter:
        """The adapter, fp32: the run's own, else the recipe's `start`, else a fresh one for `unet` with its weights.

        Its own defaults of a call become the recipe's.

        Raises:
            ValueError: `start` is no adapter, or not one for this U-Net.
        """
        if self.has("adapter"):
            adapter = self.load("adapter")
        elif self.recipe.start is not None:
            adapter = load_adapter(self.recipe.start, dtype=torch.float32).eval()
        else:
            adapter = self.seeded(lambda: SubjectAdapter.from_unet(unet, self.recipe.adapter.config()))
        adapter.check_fits(unet)
        # What was fitted to a router is not true of it once it is trained on.
        adapter.register_to_config(default_call=dict(self.recipe.defaults), segmentation=None)
        return adapter

    def adapter_sizes(self) -> AdapterConfig:
        """Those of the adapter that `adapter` gives, without its weights.

        Raises:
            ValueError: `start` is no adapter, or says sizes that cannot be.
        """
        source = self.path / "adapter" if self.has("adapter") else self.recipe.start
        return self.recipe.adapter.config() if source is None else read_adapter_sizes(source)

    def seeded(self, build: Callable[[], Any]) -> Any:
        """What `build` makes with the random numbers of the recipe's seed; the generators stay as they were."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.recipe.seed)  # not torch.manual_seed: that seeds GPUs as well
            return build()

    def save(self, component: str, value: Any) -> None:
        """Write one component whole or not at all, and name it in `model_index.json` where the folder is a model."""
        with atomic_folder(self.path / component) as fresh:
            forget_place(value).save_pretrained(fresh)
        if self.base is None:
            self.write_index()

    def _check_sizes(self, component: str, config: Any) -> None:
        """A component of other sizes than the recipe's would be trained, or would fail, far from the mistake."""
        wanted = (
            self.recipe.autoencoder if component == "vae" else {**self.recipe.unet, "sample_size": self.latent_size}
        )
        for key, value in wanted.items():
            found = config.get(key)
            if (list(found) if isinstance(found, tuple) else found) != value:
                raise ValueError(
                    f"{self.path / component} has {key} {found}, but recipe {self.recipe.name!r} says {value}: "
                    "use the recipe it was made with, or another --out"
                )

    def _kind(self, component: str) -> Any:
        """The class that reads a component of the folder; a scheduler's file names its own."""
        if component != "scheduler":
            return LOADERS[component]
        config: Any = EulerDiscreteScheduler.load_config(self.path / component)
        return scheduler_class(config["_class_name"])

    @property
    def latent_size(self) -> int:
        """Side of the square latents."""
        return self.recipe.resolution // 2 ** (len(self.recipe.autoencoder["block_out_channels"]) - 1)

    def write_index(self) -> None:
        """Write `model_index.json` as the pipeline's own `save_pretrained` would: what is here, and the defaults."""
        index: dict[str, Any] = {
            "_class_name": "AnyStoryPipeline",
            "_diffusers_version": diffusers.__version__,
            "default_call": self.recipe.defaults,
            "force_zeros_for_empty_prompt": True,
            "text_encoder": [None, None],
            "tokenizer": [None, None],
        }
        for component in LOADERS:
            if self.has(component):
                kind = self._kind(component)
                module = kind.__module__
                library = module if module.startswith("anystory.") else module.split(".")[0]
                index[component] = [library, kind.__name__]
        with atomic_write(self.path / "model_index.json") as temporary:
            temporary.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _tokenizer(folder: ModelFolder) -> CLIPTokenizer:
    level = folder.recipe.level
    assert level is not None  # a recipe without a base has one
    return build_tokenizer(level_words(level), folder.recipe.max_text_tokens)


def _text_encoder(folder: ModelFolder) -> CLIPTextModelWithProjection:
    tokenizer = folder.load_or_build("tokenizer_2")
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=folder.recipe.max_text_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **folder.recipe.text_encoder,
    )
    return CLIPTextModelWithProjection(config)


def _image_encoder(folder: ModelFolder) -> CLIPVisionModelWithProjection:
    config = CLIPVisionConfig(image_size=folder.recipe.resolution, **folder.recipe.image_encoder)
    return CLIPVisionModelWithProjection(config)


def _feature_extractor(folder: ModelFolder) -> CLIPImageProcessorPil:
    side = folder.recipe.resolution
    return CLIPImageProcessorPil(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )


def _unet(folder: ModelFolder) -> UNet2DConditionModel:
    recipe = folder.recipe
    text = recipe.text_encoder
    return UNet2DConditionModel(
        sample_size=folder.latent_size,
        in_channels=recipe.autoencoder["latent_channels"],
        out_channels=recipe.autoencoder["latent_channels"],
        cross_attention_dim=text["hidden_size"],
        # SDXL's extra conditions: pooled text and six size numbers.
        projection_class_embeddings_input_dim=text["projection_dim"] + 6 * recipe.unet["addition_time_embed_dim"],
        **recipe.unet,
    )


def _scheduler(recipe: Recipe) -> Any:
    # With what other classes ask for, so that diffusers' own `from_config` makes no scheduler for pixels of it.
    plain = EulerDiscreteScheduler.from_config(FOR_LATENTS | recipe.scheduler)
    return rescheduled(plain, recipe.sampler)


BUILDERS: dict[str, Callable[[ModelFolder], Any]] = {
    "vae": lambda folder: PatchAutoencoder(**folder.recipe.autoencoder),
    "tokenizer_2": _tokenizer,
    "text_encoder_2": _text_encoder,
    "image_encoder": _image_encoder,
    "feature_extractor": _feature_extractor,
    "unet": _unet,
    "scheduler": lambda folder: _scheduler(folder.recipe),
    "adapter": lambda folder: SubjectAdapter.from_unet(folder.load("unet"), folder.recipe.adapter.config()),
}


def forget_place(component: Any) -> Any:
    """The component, without where it was read from: the libraries would write it, and equal models would differ."""
    if isinstance(component, CLIPTokenizer):
        for name in ("name_or_path", "is_local", "local_files_only"):
            component.init_kwargs.pop(name, None)
    if isinstance(component, ConfigMixin):
        component._internal_dict = FrozenDict({k: v for k, v in component.config.items() if k != "_name_or_path"})
    return component


def check_components(recipe: Recipe) -> None:
    """Build every component of a recipe on the meta device, which costs nothing.

    Raises:
        ValueError: a component cannot be built; the message names it and what is wrong.
    """
    if recipe.base is not None:
        return  # what a base is shows when it is read, which is before anything is trained
    folder = ModelFolder(Path(), recipe)
    _try_to_build(recipe, "autoencoder", lambda: PatchAutoencoder(**recipe.autoencoder))
    _try_to_build(recipe, "text_encoder", lambda: CLIPTextModelWithProjection(CLIPTextConfig(**recipe.text_encoder)))
    _try_to_build(recipe, "image_encoder", lambda: _image_encoder(folder))
    _try_to_build(recipe, "unet", lambda: SubjectAdapter.from_unet(_unet(folder), recipe.adapter.config()))
    _try_to_build(recipe, "scheduler", lambda: _scheduler(recipe), device="cpu")
    image = recipe.image_encoder["hidden_size"]
    if image != recipe.adapter.config().clip_dim:
        raise ValueError(f"recipe {recipe.name!r}: image_encoder has width {image}, its adapter wants another clip_dim")


def _try_to_build(recipe: Recipe, part: str, build: Callable[[], object], device: str = "meta") -> None:
    try:
        with torch.device(device):
            build()
    except KeyError as error:
        raise ValueError(f"recipe {recipe.name!r}: {part} lacks {error}") from error
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"recipe {recipe.name!r}: {part} cannot be built: {error}") from error


def copy_model(model: Path, fresh: Path) -> None:
    """Copy a model folder as it is, without what a run that was killed left half-written in it."""
    if not model.is_dir():
        return
    shutil.copytree(model, fresh, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*.tmp", ".saving-*"))
    for old in fresh.glob(".*.old"):
        recover_folder(fresh / old.name[1:].removesuffix(".old"))
