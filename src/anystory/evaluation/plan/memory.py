"""What one GPU holds of a training run, and what to change until it fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from anystory.training.recipe import StageConfig

Strategy = Literal["ddp", "fsdp2"]
STRATEGIES: tuple[Strategy, ...] = ("ddp", "fsdp2")
"""How the processes share: `ddp` copies everything, `fsdp2` cuts the trained weights, gradients and optimizer."""

GIB = 2**30
RESERVE = 2 * GIB
"""What torch and the driver take beside tensors: context, kernels' workspaces, fragments. An estimate."""
FIT = 0.97
"""Part of the stated memory that a program gets: a card of 80 GB has 79.2 GiB, one of 24 GB 23.6."""


@dataclass(frozen=True, kw_only=True)
class Machines:
    """The GPUs of a run, all alike, and how its processes share them.

    Raises:
        ValueError: a strategy that does not exist.
    """

    gpus: int = 1
    """On all nodes together."""
    memory_gb: float = 80
    """Of each."""
    strategy: Strategy = "ddp"
    tflops: float = 312
    """Of a GPU at bf16 on paper: A100 312, H100 989, RTX 4090 165."""
    utilisation: float = 0.35
    """The part of it that a training run reaches; an estimate."""

    def __post_init__(self) -> None:
        if self.strategy == "zero2":
            raise ValueError(
                "--strategy zero2 is not planned: zero2.yaml is FSDP2 that keeps the weights together, and needs more "
                "than fsdp2 and less than ddp; plan these two"
            )
        if self.strategy not in STRATEGIES:
            raise ValueError(f"--strategy is one of {', '.join(STRATEGIES)}, got {self.strategy!r}")

    @property
    def room(self) -> int:
        """Bytes of one GPU that a program gets."""
        return int(self.memory_gb * FIT * GIB)

    def hours(self, flops: float) -> float:
        """Hours that this many operations take."""
        return flops / (self.gpus * self.tflops * 1e12 * self.utilisation) / 3600


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
class Load:
    """All that the memory of one GPU depends on."""

    config: StageConfig
    trained: int
    """Parameters that are trained."""
    frozen_bytes: int
    """Of everything else."""
    activations: int
    """Bytes at the peak of a batch."""
    machines: Machines

    def memory(self) -> Memory:
        """What one GPU holds."""
        config, trained = self.config, self.trained
        cut = self.machines.gpus if self.machines.strategy == "fsdp2" else 1
        on_cpu = config.masters == "cpu"
        average = {"device": 4, "cpu": 0, "off": 0}[config.ema]
        return Memory(
            frozen=self.frozen_bytes,
            weights=trained * (2 if on_cpu else 4) // cut,
            gradients=0 if on_cpu else trained * 4 // cut,
            optimizer=0 if on_cpu else int(trained * moment_bytes(config)) // cut,
            average=0 if on_cpu else trained * average // cut,
            activations=self.activations,
            main_memory=trained * (16 * on_cpu + 4 * (config.ema == "cpu" or (on_cpu and config.ema == "device"))),
        )

    @property
    def fits(self) -> bool:
        """Whether a GPU has room for it."""
        return self.memory().total <= self.machines.room

    def changed(self, activations: int | None = None, **settings: Any) -> Load:
        """The same with other settings of the stage."""
        config = self.config.model_copy(update=settings)
        return replace(self, config=config, activations=self.activations if activations is None else activations)


def moment_bytes(config: StageConfig) -> float:
    """Bytes of a parameter's moments in the optimizer."""
    if config.optimizer == "muon":
        return 4  # one for matrices, which nearly all parameters are in
    # In 8 bits with a factor of each 256, twice. Tensors of fewer than 4096 numbers keep 32 bits: too few to count.
    return 8 if config.optimizer == "adamw" else 2 + 8 / 256


def advice(load: Load) -> list[str]:
    """Changes that make a run fit, in the order in which they cost least; [] if it fits as it is."""
    batch = load.config.global_batch or load.config.batch_size * load.machines.gpus
    changes: tuple[tuple[str, Callable[[Load], Load | None]], ...] = (
        ("gradient_checkpointing: true", _recomputed),
        (f"batch_size: 1 (global_batch: {batch})", _single_samples),
        ("ema: cpu", _average_on_cpu),
        ("accelerate launch --config_file configs/accelerate/fsdp2.yaml", _cut_weights),
        ("optimizer: adamw8bit", _eight_bits),
        ("masters: cpu (instead of 8 bits)", _masters_on_cpu),
    )
    said: list[str] = []
    for words, change in changes:
        if load.fits:
            return said
        if (changed := change(load)) is not None:
            load = changed
            said.append(words)
    if load.fits:
        return said
    return [*said, "and still it does not: lower the resolution, or take larger GPUs"]


def _recomputed(load: Load) -> Load | None:
    if load.config.gradient_checkpointing:
        return None
    return load.changed(load.activations // 3, gradient_checkpointing=True)  # counting both gave 3.8 for SDXL, stage 1


def _single_samples(load: Load) -> Load | None:
    size = load.config.batch_size
    return load.changed(load.activations // size, batch_size=1) if size > 1 else None


def _average_on_cpu(load: Load) -> Load | None:
    return load.changed(ema="cpu") if load.config.ema == "device" else None


def _cut_weights(load: Load) -> Load | None:
    if load.machines.gpus == 1 or load.machines.strategy == "fsdp2" or load.config.optimizer != "adamw":
        return None
    return replace(load, machines=replace(load.machines, strategy="fsdp2"))


def _eight_bits(load: Load) -> Load | None:
    whole = load.machines.strategy == "ddp" and load.config.optimizer != "adamw8bit"
    return load.changed(optimizer="adamw8bit") if whole else None


def _masters_on_cpu(load: Load) -> Load | None:
    if load.machines.gpus > 1 or load.config.masters == "cpu":
        return None
    return load.changed(optimizer="adamw", masters="cpu", ema="device")
