"""From what is counted to what a run needs: memory per GPU, hours, disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn

from anystory.training.recipe import Recipe, StageConfig, StageName

from .meta import meta_batch, meta_stage
from .meter import LikeAGpu, Meter

Strategy = Literal["ddp", "fsdp2", "zero2"]

GIB = 2**30
RESERVE = 2 * GIB
"""What torch and the driver take beside tensors: context, kernels' workspaces, fragments. An estimate."""
FIT = 0.97
"""Part of the stated memory that a program gets: a card of 80 GB has 79.2 GiB, one of 24 GB 23.6."""


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
class Memory:
    """Bytes on one GPU."""

    frozen: int
    weights: int
    """Of what is trained."""
    gradients: int
    optimizer: int
    average: int
    activations: int
    reserve: int = RESERVE
    main_memory: int = 0
    """Beside the GPU's, of this process: masters, moments, averages."""

    @property
    def total(self) -> int:
        """On the GPU."""
        own = (self.frozen, self.weights, self.gradients, self.optimizer, self.average, self.activations)
        return sum(own) + self.reserve


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that `anystory train plan` prints."""

    recipe: str
    stage: StageName
    gpus: int
    memory_gb: float
    strategy: Strategy
    trained_parameters: int
    frozen_parameters: int
    batch_size: int
    global_batch: int
    accumulation: int
    counted: Counted
    other: Counted | None
    """The same with the other choice of `gradient_checkpointing`."""
    memory: Memory
    fits: bool
    advice: list[str]
    """What to change, in order, until it fits; empty where it does."""
    samples: int
    steps: int
    tflops: float
    utilisation: float
    hours: float
    cache_bytes: int
    """Latents, text embeddings and instance maps of all samples."""
    checkpoint_bytes: int
    """The checkpoints that are kept, together."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"memory": asdict(self.memory) | {"total": self.memory.total}}


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
    *,
    gpus: int = 1,
    memory_gb: float = 80,
    strategy: Strategy = "ddp",
    batch_size: int | None = None,
    samples: int | None = None,
    tflops: float = 312,
    utilisation: float = 0.35,
    compare: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Plan:
    """Plan one stage.

    Args:
        recipe, name: what is trained.
        gpus: how many, alike.
        memory_gb: of each.
        strategy: how the processes share: `ddp` copies everything, `zero2` cuts gradients and optimizer, `fsdp2` the
            trained weights too.
        batch_size: in the recipe's place.
        samples: that the run sees; None is the recipe's steps.
        tflops: of a GPU at bf16 on paper: A100 312, H100 989, RTX 4090 165.
        utilisation: the part of it that a training run reaches; an estimate.
        compare: count the other choice of gradient_checkpointing, too.
        progress: is told what is counted next.

    Raises:
        ValueError: numbers that do not go together, or a stage that cannot be planned.
    """
    config = recipe.stages[name]
    if batch_size is not None:
        config = StageConfig.model_validate(config.model_dump() | {"batch_size": batch_size})
    if strategy != "ddp" and config.optimizer != "adamw":
        raise ValueError(f"optimizer {config.optimizer!r} knows no weights in pieces: say --strategy ddp")
    recipe = recipe.model_copy(update={"stages": {**recipe.stages, name: config}})
    accumulation = config.accumulation(gpus)
    global_batch = config.batch_size * gpus * accumulation
    progress(f"{name}: one batch of {config.batch_size}")
    counted = count(recipe, name, batch_size=config.batch_size)
    other = None
    if compare:
        progress(f"{name}: the other choice of gradient_checkpointing")
        turned = config.model_copy(update={"gradient_checkpointing": not config.gradient_checkpointing})
        turned_recipe = recipe.model_copy(update={"stages": {**recipe.stages, name: turned}})
        other = count(turned_recipe, name, batch_size=config.batch_size)
    stage = meta_stage(recipe, name, LikeAGpu(True))
    trained = sum(p.numel() for p in stage.trained_parameters().values())
    own = {id(p) for p in stage.trained_parameters().values()}
    frozen = [p for p in (*stage.parameters(), *stage.buffers()) if id(p) not in own]
    frozen_bytes = sum(p.numel() * p.element_size() for p in frozen)
    memory = memory_of(config, trained, frozen_bytes, counted.peak_bytes, gpus, strategy)
    room = int(memory_gb * FIT * GIB)
    if samples is None:
        if config.steps is None:
            raise ValueError(f"recipe {recipe.name!r} gives stage {name!r} no steps: say --samples N")
        samples = config.steps * global_batch
    steps = -(-samples // global_batch)
    per_sample = counted.flops / counted.batch_size
    hours = per_sample * samples / (gpus * tflops * 1e12 * utilisation) / 3600
    return Plan(
        recipe=recipe.name,
        stage=name,
        gpus=gpus,
        memory_gb=memory_gb,
        strategy=strategy,
        trained_parameters=trained,
        frozen_parameters=sum(p.numel() for p in frozen if isinstance(p, nn.Parameter)),
        batch_size=config.batch_size,
        global_batch=global_batch,
        accumulation=accumulation,
        counted=counted,
        other=other,
        memory=memory,
        fits=memory.total <= room,
        advice=_advice(config, trained, frozen_bytes, counted, gpus, strategy, room),
        samples=samples,
        steps=steps,
        tflops=tflops,
        utilisation=utilisation,
        hours=hours,
        cache_bytes=samples * _cached_bytes(recipe, stage),
        checkpoint_bytes=(config.keep_last + 1) * int(trained * (4 + _moments(config) + 4 * (config.ema != "off"))),
    )


def memory_of(
    config: StageConfig, trained: int, frozen_bytes: int, activations: int, gpus: int, strategy: Strategy
) -> Memory:
    """What one GPU holds.

    Args:
        config: the stage's settings.
        trained: parameters that are trained.
        frozen_bytes: of everything else.
        activations: bytes at the peak of a batch.
        gpus, strategy: as for `estimate`.
    """
    cut = 1 if strategy == "ddp" else gpus
    cut_weights = gpus if strategy == "fsdp2" else 1
    on_cpu = config.masters == "cpu"
    average = {"device": 4, "cpu": 0, "off": 0}[config.ema]
    return Memory(
        frozen=frozen_bytes,
        weights=trained * (2 if on_cpu else 4) // cut_weights,
        gradients=0 if on_cpu else trained * 4 // cut,
        optimizer=0 if on_cpu else int(trained * _moments(config)) // cut,
        average=0 if on_cpu else trained * average // cut_weights,
        activations=activations,
        main_memory=trained * (16 * on_cpu + 4 * (config.ema == "cpu" or (on_cpu and config.ema == "device"))),
    )


def _moments(config: StageConfig) -> float:
    """Bytes of a parameter's two moments."""
    # In 8 bits with a factor of each 256, twice. Tensors of fewer than 4096 numbers keep 32 bits: too few to count.
    return 8 if config.optimizer == "adamw" else 2 + 8 / 256


def _advice(
    config: StageConfig,
    trained: int,
    frozen_bytes: int,
    counted: Counted,
    gpus: int,
    strategy: Strategy,
    room: int,
) -> list[str]:
    """Changes in the order in which they cost least, as many as are needed; [] if nothing is."""
    said: list[str] = []
    activations = counted.peak_bytes

    def fits() -> bool:
        return memory_of(config, trained, frozen_bytes, activations, gpus, strategy).total <= room

    changes: list[tuple[str, dict[str, Any]]] = [
        ("gradient_checkpointing: true", {"gradient_checkpointing": True}),
        (f"batch_size: 1 (global_batch: {config.global_batch or config.batch_size * gpus})", {"batch_size": 1}),
        ("ema: cpu", {"ema": "cpu"}),
        ("accelerate launch --config_file configs/accelerate/fsdp2.yaml", {}),
        ("optimizer: adamw8bit", {"optimizer": "adamw8bit"}),
        ("masters: cpu (instead of 8 bits)", {"optimizer": "adamw", "masters": "cpu", "ema": "device"}),
    ]
    for words, change in changes:
        if fits():
            return said
        if change and all(getattr(config, key) == value for key, value in change.items()):
            continue
        if not change:
            if gpus == 1 or strategy == "fsdp2" or config.optimizer != "adamw":
                continue
            strategy = "fsdp2"
        if ("masters" in change and gpus > 1) or ("adamw8bit" in change.values() and strategy != "ddp"):
            continue
        if "gradient_checkpointing" in change:
            activations //= 3  # counting both gave 3.8 for SDXL in stage 1
        if "batch_size" in change:
            activations //= config.batch_size
        config = config.model_copy(update=change)
        said.append(words)
    return said if fits() else [*said, "and still it does not: lower the resolution, or take larger GPUs"]


def _cached_bytes(recipe: Recipe, stage: Any) -> int:
    """Of one sample, as `training.caching` keeps it: latents fp32, text as the encoders give it, instances."""
    latent = stage.latent_size**2 * stage.unet.config["in_channels"]
    pooled = stage.texts.pooled.config
    text = pooled.max_position_embeddings * stage.unet.config["cross_attention_dim"] + pooled.projection_dim
    return 4 * latent + stage.texts.pooled.dtype.itemsize * text + recipe.resolution**2
