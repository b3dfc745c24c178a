"""What a training run is: sizes of the components and settings of each stage, read from YAML and checked."""

from __future__ import annotations

from dataclasses import fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from anystory.models.configs import PRESETS, AdapterConfig
from anystory.storyworld.level import load_level

STAGES = ("vae", "clip", "base", "encoder", "router")
StageName = Literal["vae", "clip", "base", "encoder", "router"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StageConfig(_Model):
    """Settings of one stage. A stage ends at `steps` or at `minutes`, whichever is set and comes first."""

    batch_size: int = Field(gt=0)
    """Samples per process and step."""
    learning_rate: float = Field(gt=0)
    """AdamW's peak learning rate."""
    weight_decay: float = Field(default=0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    warmup_steps: int = Field(default=100, ge=0)
    decay_fraction: float = Field(default=0.2, ge=0, le=1)
    """Last part of the budget, over which the learning rate falls linearly to a twentieth."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    minutes: float | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, gt=0)
    sample_every: int = Field(default=500, gt=0)
    """Steps between sample pictures."""
    checkpoint_minutes: float = Field(default=3.0, gt=0)
    """Wall-clock minutes between checkpoints."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of this stage alone; each stage checks its own (see `anystory.training.stages`)."""


class AdapterRecipe(BaseModel):
    """A preset of `anystory.models.configs` with some sizes changed."""

    model_config = ConfigDict(frozen=True, extra="allow")

    preset: str

    @model_validator(mode="after")
    def _fits(self) -> AdapterRecipe:
        self.config()
        return self

    def config(self) -> AdapterConfig:
        """The preset with this recipe's changes.

        Raises:
            ValueError: no such preset or size.
        """
        if self.preset not in PRESETS:
            raise ValueError(f"no adapter preset {self.preset!r}: one of {', '.join(PRESETS)}")
        changes = self.model_extra or {}
        unknown = set(changes) - {f.name for f in fields(AdapterConfig)}
        if unknown:
            raise ValueError(f"adapter has no size {sorted(unknown)}")
        return replace(PRESETS[self.preset], **changes)


class Recipe(_Model):
    """A model's sizes and how each of its parts is trained."""

    name: str
    level: str
    """StoryWorld level of every picture the run sees."""
    resolution: int = Field(gt=0, multiple_of=8)
    """Side of the square pictures, pixels."""
    seed: int = 0
    max_text_tokens: int = Field(default=40, gt=4)
    autoencoder: dict[str, Any]
    """`PatchAutoencoder` config."""
    text_encoder: dict[str, Any]
    """`transformers.CLIPTextConfig` values."""
    image_encoder: dict[str, Any]
    """`transformers.CLIPVisionConfig` values."""
    unet: dict[str, Any]
    """`UNet2DConditionModel` config."""
    scheduler: dict[str, Any]
    """`EulerDiscreteScheduler` config."""
    adapter: AdapterRecipe
    """Sizes of the adapter."""
    defaults: dict[str, int | float]
    """Arguments of the pipeline's call that it uses when the caller says nothing: steps, guidance."""
    stages: dict[StageName, StageConfig]

    @model_validator(mode="after")
    def _complete(self) -> Recipe:
        missing = [stage for stage in STAGES if stage not in self.stages]
        if missing:
            raise ValueError(f"stages lacks {', '.join(missing)}")
        needed = {"autoencoder": "block_out_channels latent_channels", "text_encoder": "hidden_size projection_dim"}
        needed |= {"image_encoder": "hidden_size", "unet": "addition_time_embed_dim", "defaults": "guidance_scale"}
        for part, keys in needed.items():
            lacking = [key for key in keys.split() if key not in getattr(self, part)]
            if lacking:
                raise ValueError(f"{part} lacks {', '.join(lacking)}")
        load_level(self.level)
        return self


def recipe_names() -> list[str]:
    """Names of the recipes that ship with the package."""
    folder = resources.files("anystory.training") / "recipes"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe by the name of a packaged one or from a YAML file.

    Raises:
        ValueError: no such recipe, not YAML, or a value out of its range; the message names the field.
    """
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise ValueError(f"no recipe file at {path}")
        text = path.read_text(encoding="utf-8")
    elif str(name_or_path) in recipe_names():
        text = (resources.files("anystory.training") / "recipes" / f"{name_or_path}.yaml").read_text(encoding="utf-8")
    else:
        raise ValueError(f"no recipe {str(name_or_path)!r}: give a .yaml file or one of {', '.join(recipe_names())}")
    try:
        return Recipe.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ValueError(f"recipe {name_or_path} is not valid YAML: {error}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ValueError(f"recipe {name_or_path} does not fit: {problems}") from error
