"""What a training run is: sizes of the components and settings of each stage, read from YAML and checked."""

from __future__ import annotations

from dataclasses import fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from anystory.input_files import read_text
from anystory.models.configs import PRESETS, AdapterConfig
from anystory.storyworld.level import load_level

STAGES = ("vae", "decoder", "clip", "base", "encoder", "router")
StageName = Literal["vae", "decoder", "clip", "base", "encoder", "router"]
OPTIONAL_STAGES: tuple[StageName, ...] = ("decoder",)
"""Those that a model which is trained from nothing can do without."""
PERSONAL_STAGES: tuple[StageName, ...] = ("encoder", "router")
"""Those that train an adapter on a frozen base."""
_PERSONAL = " and ".join(PERSONAL_STAGES)

OptimizerName = Literal["adamw", "adamw8bit", "paged_adamw8bit", "muon"]
ScheduleName = Literal["linear", "constant", "cosine"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StageConfig(_Strict):
    """Settings of one stage. A stage ends at `steps` or at `minutes`, whichever is set and comes first."""

    batch_size: int = Field(gt=0)
    """Samples that one process computes at a time."""
    global_batch: int | None = Field(default=None, gt=0)
    """Samples per step over all processes; gradients are accumulated until they are together. None: `batch_size` of
    every process."""
    gradient_checkpointing: bool = False
    """Keep only the inputs of the networks' blocks, and compute the rest once more when gradients are taken."""
    optimizer: OptimizerName = "adamw"
    """`muon` moves matrices and convolutions by their orthogonalised momentum (`anystory.training.state.muon`),
    everything else by AdamW. `adamw8bit` keeps the moments of tensors with 4096 numbers and more in 8 bits
    (bitsandbytes); `paged_adamw8bit` also lets them spill over from a GPU into main memory. FSDP2 goes with `adamw`
    only."""
    masters: Literal["device", "cpu"] = "device"
    """Where the fp32 weights, moments and average live. `cpu`: in main memory; the device computes with bf16 copies."""
    learning_rate: float = Field(gt=0)
    """The peak learning rate; with `muon` that of its matrices."""
    muon_adamw_ratio: float = Field(default=0.5, gt=0)
    """With `muon`: AdamW's learning rate as a share of `learning_rate`."""
    weight_decay: float = Field(default=0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    schedule: ScheduleName = "linear"
    """What the learning rate does after the warm-up: see `anystory.training.state.schedules`."""
    warmup_steps: int = Field(default=100, ge=0)
    decay_fraction: float = Field(default=0.2, ge=0, le=1)
    """With `linear`: last part of the budget, over which the learning rate falls to a twentieth."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    ema: Literal["device", "cpu", "off"] = "device"
    """Where the averaged weights live; `off`: no average is kept, the trained weights themselves are exported."""
    minutes: float | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, gt=0)
    sample_every: int = Field(default=500, gt=0)
    """Steps between sample pictures."""
    checkpoint_minutes: float = Field(default=3.0, gt=0)
    """Wall-clock minutes between checkpoints."""
    keep_last: int = Field(default=2, gt=0)
    """Checkpoints that are kept, the newest ones; the best is kept as well."""
    log_every: int = Field(default=20, gt=0)
    """Steps between records of the log."""
    validate_every: int = Field(default=500, ge=0)
    """Steps between validations; the last step is validated too. 0: none."""
    validate_samples: int = Field(default=16, gt=0)
    """Held-out samples that validation sees, always the same."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of this stage alone; each stage checks its own (see `anystory.training.stages`)."""

    @model_validator(mode="after")
    def _go_together(self) -> StageConfig:
        if self.masters == "cpu" and self.optimizer != "adamw":
            raise ValueError(f"masters 'cpu' needs optimizer 'adamw', got {self.optimizer!r}")
        if self.global_batch is not None and self.global_batch % self.batch_size:
            raise ValueError(f"global_batch {self.global_batch} is not a multiple of batch_size {self.batch_size}")
        return self

    def accumulation(self, processes: int) -> int:
        """Batches that each process computes before a step.

        Raises:
            ValueError: the global batch cannot be split so.
        """
        if self.global_batch is None:
            return 1
        together = self.batch_size * processes
        if self.global_batch % together:
            raise ValueError(
                f"global_batch {self.global_batch} is not a multiple of {processes} processes × batch_size "
                f"{self.batch_size}: change one of them"
            )
        return self.global_batch // together


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


class BaseRecipe(_Strict):
    """A base that exists: where its parts are read from. What is read is frozen."""

    source: str
    """A folder in diffusers layout, a hub id, an embedded model's name, or a single .safetensors file of SDXL."""
    config: str | None = None
    """For a single file: a folder or hub id with the configuration files."""
    variant: str | None = None
    """Variant of the weights' files, e.g. fp16."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Type of the U-Net, the text encoders and the image encoder."""
    vae: str | None = None
    """Another autoencoder: its folder or hub id."""
    vae_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """The autoencoder's type, whatever the run's precision is. SDXL's own overflows in float16."""
    image_encoder: str | None = None
    """A folder or hub id; None is the base's own where it has one, else CLIP ViT-H/14, the paper's."""


_PARTS = ("autoencoder", "text_encoder", "image_encoder", "unet", "scheduler")
_NEEDED = {
    "autoencoder": ("block_out_channels", "latent_channels"),
    "text_encoder": ("hidden_size", "projection_dim"),
    "image_encoder": ("hidden_size",),
    "unet": ("addition_time_embed_dim",),
}


class Recipe(_Strict):
    """What is trained, on what, and how: a model from nothing by its parts' sizes, or an adapter on a `base`."""

    name: str
    level: str | None = None
    """StoryWorld level of every picture the run sees; None where `shards` or --data say what it sees. A model that is
    trained from nothing has a level in any case: only its stages with an adapter take shards."""
    shards: tuple[str, ...] = ()
    """Folders of samples that `anystory data build` wrote: what the stages with an adapter see."""
    cache: str | None = None
    """Folder that `anystory train cache` wrote: latents and text embeddings of the shards' targets, read in place of
    the pictures. Each sample then has one crop in every epoch."""
    resolution: int = Field(gt=0, multiple_of=8)
    """Side of the square pictures, pixels."""
    seed: int = 0
    base: BaseRecipe | None = None
    """Where the frozen parts come from; with it no sizes are given but the adapter's."""
    start: str | None = None
    """Where the adapter begins, unless a stage has trained it in this run: a folder such as `anystory adapter init`
    writes. None: from the base's own weights (`SubjectAdapter.from_unet`)."""
    max_text_tokens: int = Field(default=40, gt=4)
    autoencoder: dict[str, Any] = Field(default_factory=dict)
    """`PatchAutoencoder` config."""
    text_encoder: dict[str, Any] = Field(default_factory=dict)
    """`transformers.CLIPTextConfig` values."""
    image_encoder: dict[str, Any] = Field(default_factory=dict)
    """`transformers.CLIPVisionConfig` values."""
    unet: dict[str, Any] = Field(default_factory=dict)
    """`UNet2DConditionModel` config."""
    scheduler: dict[str, Any] = Field(default_factory=dict)
    """`EulerDiscreteScheduler` config: the noise that is trained on."""
    sampler: str | None = None
    """The class of diffusers with which the trained model draws; its noise stays the scheduler's. None: a model that
    training starts with keeps its own, a new one draws with `EulerDiscreteScheduler`."""
    adapter: AdapterRecipe
    """Sizes of the adapter."""
    defaults: dict[str, int | float]
    """Arguments of the pipeline's call that it uses when the caller says nothing: steps, guidance."""
    stages: dict[StageName, StageConfig] = Field(min_length=1)

    @model_validator(mode="after")
    def _complete(self) -> Recipe:
        if "guidance_scale" not in self.defaults:
            raise ValueError("defaults lacks guidance_scale")
        if self.level is not None:
            if self.shards and self.base is not None:
                raise ValueError("level and shards exclude each other: the samples are StoryWorld's or the shards'")
            load_level(self.level)
        if self.base is None:
            self._check_sizes()
        else:
            self._check_on_base()
        return self

    def _check_sizes(self) -> None:
        if self.level is None:
            raise ValueError("level is missing: a model that is trained from nothing learns StoryWorld")
        if self.start is not None:
            raise ValueError("start needs a base: it is an adapter for one that exists")
        missing = [stage for stage in STAGES if stage not in (*self.stages, *OPTIONAL_STAGES)]
        if missing:
            raise ValueError(f"stages lacks {', '.join(missing)}")
        for part, keys in _NEEDED.items():
            lacking = [key for key in keys if key not in getattr(self, part)]
            if lacking:
                raise ValueError(f"{part} lacks {', '.join(lacking)}")

    def _check_on_base(self) -> None:
        given = [part for part in _PARTS if getattr(self, part)]
        if given:
            raise ValueError(f"base and {', '.join(given)} exclude each other: a base has its own sizes")
        strange = [stage for stage in self.stages if stage not in PERSONAL_STAGES]
        if strange:
            raise ValueError(
                f"stage {', '.join(strange)} does not go with base: it is frozen ({_PERSONAL} train on it)"
            )

    def with_sources(
        self,
        *,
        base: str | None = None,
        data: tuple[str, ...] = (),
        adapter: str | None = None,
        cache: str | None = None,
    ) -> Recipe:
        """The recipe with other sources than it names.

        Args:
            base: where the base is; a variant of the recipe's own does not go with it.
            data: folders of shards, or one level of StoryWorld.
            adapter: where the adapter begins.
            cache: folder with latents and text embeddings of `data`.

        Raises:
            ValueError: they do not go with the recipe, or there is no such folder or level.
        """
        changes: dict[str, Any] = {}
        if base is not None:
            if self.base is None:
                raise ValueError(f"--base: recipe {self.name!r} trains its model from nothing")
            changes["base"] = self.base.model_dump() | {"source": base, "variant": None}
        if adapter is not None:
            changes["start"] = adapter
        if cache is not None:
            changes["cache"] = cache
        if data:
            folders = [place for place in data if Path(place).exists()]
            missing = [place for place in data if place not in folders]
            if missing and (folders or len(missing) > 1):
                raise ValueError(f"--data: there is no {missing[0]}")
            level = missing[0] if missing else self.level if self.base is None else None
            changes |= {"shards": tuple(folders), "level": level}
        return self if not changes else _validated(self.model_dump() | changes, self.name)

    @property
    def stage_names(self) -> tuple[StageName, ...]:
        """The recipe's stages, in the order in which they run."""
        return tuple(stage for stage in STAGES if stage in self.stages)


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
        if not path.exists():
            raise ValueError(f"no recipe file at {path}")
        text = read_text(path, "give a recipe's YAML file")
    elif str(name_or_path) in recipe_names():
        text = (resources.files("anystory.training") / "recipes" / f"{name_or_path}.yaml").read_text(encoding="utf-8")
    else:
        raise ValueError(f"no recipe {str(name_or_path)!r}: give a .yaml file or one of {', '.join(recipe_names())}")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"recipe {name_or_path} is not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise ValueError(f"recipe {name_or_path} is nested too deeply: give a recipe's YAML file") from None
    return _validated(values, name_or_path)


def _validated(values: Any, name: str | Path) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ValueError(f"recipe {name} does not fit: {problems}") from error
