"""From what is counted to what a run needs: memory per GPU, hours, disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from anystory.evaluation.plan.memory import Load, Machines, Memory, advice, moment_bytes
from anystory.evaluation.plan.meta import meta_batch, meta_stage
from anystory.evaluation.plan.meter import LikeAGpu, Meter
from anystory.training.recipe import Recipe, StageConfig, StageName
from anystory.training.stages.personal import PersonalStage


@dataclass(frozen=True, kw_only=True)
class Counted:
    """One batch of one stage, forward and backward, on the meta device."""

    batch_size: int
    recomputed: bool
    """Whether blocks are computed twice."""
    kept_bytes: int
    """What autograd holds between the passes."""
    peak_bytes: int
    """The most that is held at any moment, weights and gradients apart."""
    forward_flops: int
    flops: int
    """Both passes, with what is computed twice."""


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Everything that `anystory train plan` prints."""

    recipe: str
    stage: StageName
    machines: Machines
    trained_parameters: int
    frozen_parameters: int
    accumulation: int
    counted: Counted
    other: Counted | None
    """The same with the other choice of `gradient_checkpointing`."""
    memory: Memory
    fits: bool
    advice: list[str]
    """What to change, in order, until it fits; empty where it does."""
    samples: int
    cache_bytes: int
    """Latents, text embeddings and instance maps of all samples."""
    checkpoint_bytes: int
    """The checkpoints that are kept, together."""

    @property
    def batch_size(self) -> int:
        """Samples per GPU at a time."""
        return self.counted.batch_size

    @property
    def global_batch(self) -> int:
        """Samples of a step."""
        return self.batch_size * self.machines.gpus * self.accumulation

    @property
    def steps(self) -> int:
        """Until all samples are seen."""
        return -(-self.samples // self.global_batch)

    @property
    def hours(self) -> float:
        """Of the whole run; an estimate."""
        return self.machines.hours(self.counted.flops / self.batch_size * self.samples)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        values = asdict(self)
        derived = {name: getattr(self, name) for name in ("batch_size", "global_batch", "steps", "hours")}
        return values.pop("machines") | values | derived | {"memory": values["memory"] | {"total": self.memory.total}}


def count(recipe: Recipe, name: StageName, *, batch_size: int, cached: bool = False, bf16: bool = True) -> Counted:
    """Run one batch of a stage on the meta device, both passes.

    Raises:
        ValueError: a stage whose cost cannot be counted.
    """
    gpu = LikeAGpu(bf16)
    stage = meta_stage(recipe, name, gpu)
    trained = stage.freeze_rest()
    for parameter in trained.values():
        parameter.grad = torch.empty_like(parameter)  # gradients are counted apart
    batch = meta_batch(stage, batch_size, cached=cached or recipe.cache is not None)
    generator: Any = None  # the meta device has none
    with Meter() as meter, gpu:
        loss = stage(batch, generator)["loss"]
        kept, forward = meter.live, meter.flops
        torch.autograd.backward(loss)
    return Counted(
        batch_size=batch_size,
        recomputed=recipe.stages[name].gradient_checkpointing,
        kept_bytes=kept,
        peak_bytes=meter.peak,
        forward_flops=forward,
        flops=meter.flops,
    )


def estimate(
    recipe: Recipe,
    name: StageName,
    machines: Machines,
    *,
    batch_size: int | None = None,
    samples: int | None = None,
    compare: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> TrainingPlan:
    """Plan one stage.

    Args:
        recipe, name: what is trained.
        machines: on what.
        batch_size: in the recipe's place.
        samples: that the run sees; None is the recipe's steps.
        compare: also count the other choice of gradient_checkpointing.
        progress: called with what is counted next.

    Raises:
        ValueError: numbers that do not go together, or a stage that cannot be planned.
    """
    recipe = _with(recipe, name, {} if batch_size is None else {"batch_size": batch_size})
    config = recipe.stages[name]
    if machines.strategy != "ddp" and config.optimizer != "adamw":
        raise ValueError(f"optimizer {config.optimizer!r} knows no weights in pieces: say --strategy ddp")
    accumulation = config.accumulation(machines.gpus)
    if samples is None:
        if config.steps is None:
            raise ValueError(f"recipe {recipe.name!r} gives stage {name!r} no steps: say --samples N")
        samples = config.steps * config.batch_size * machines.gpus * accumulation
    progress(f"{name}: one batch of {config.batch_size}")
    counted, other = count(recipe, name, batch_size=config.batch_size), None
    if compare:
        progress(f"{name}: the other choice of gradient_checkpointing")
        turned = _with(recipe, name, {"gradient_checkpointing": not config.gradient_checkpointing})
        other = count(turned, name, batch_size=config.batch_size)
    stage = meta_stage(recipe, name, LikeAGpu(True))
    load, frozen = _load(stage, config, counted, machines)
    return TrainingPlan(
        recipe=recipe.name,
        stage=name,
        machines=machines,
        trained_parameters=load.trained,
        frozen_parameters=frozen,
        accumulation=accumulation,
        counted=counted,
        other=other,
        memory=load.memory(),
        fits=load.fits,
        advice=advice(load),
        samples=samples,
        cache_bytes=samples * _cached_bytes(recipe, stage),
        checkpoint_bytes=_checkpoint_bytes(config, load.trained),
    )


def _with(recipe: Recipe, name: StageName, changes: dict[str, Any]) -> Recipe:
    """The recipe with other settings of one stage."""
    config = StageConfig.model_validate(recipe.stages[name].model_dump() | changes)
    return recipe.model_copy(update={"stages": {**recipe.stages, name: config}})


def _load(stage: PersonalStage, config: StageConfig, counted: Counted, machines: Machines) -> tuple[Load, int]:
    """What a GPU has to hold, and how many parameters are frozen."""
    trained = {id(p): p for p in stage.trained_parameters().values()}
    frozen = [p for p in (*stage.parameters(), *stage.buffers()) if id(p) not in trained]
    load = Load(
        config=config,
        trained=sum(p.numel() for p in trained.values()),
        frozen_bytes=sum(p.numel() * p.element_size() for p in frozen),
        activations=counted.peak_bytes,
        machines=machines,
    )
    return load, sum(p.numel() for p in frozen if isinstance(p, nn.Parameter))


def _checkpoint_bytes(config: StageConfig, trained: int) -> int:
    """Of all checkpoints that are kept: weights, moments, average."""
    return (config.keep_last + 1) * int(trained * (4 + moment_bytes(config) + 4 * (config.ema != "off")))


def _cached_bytes(recipe: Recipe, stage: PersonalStage) -> int:
    """Of one sample, as `training.caching` keeps it: latents fp32, text as the encoders give it, instances."""
    latent = stage.latent_size**2 * stage.unet.config["in_channels"]
    pooled = stage.texts.pooled.config
    text = pooled.max_position_embeddings * stage.unet.config["cross_attention_dim"] + pooled.projection_dim
    return 4 * latent + stage.texts.pooled.dtype.itemsize * text + recipe.resolution**2
