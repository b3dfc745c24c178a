"""Steps of one training stage, to be timed: bare under several settings, and as the loop takes them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from anystory.precision import bf16_is_native
from anystory.training.data.stream import Sample, collate
from anystory.training.launch.devices import (
    Precision,
    compile_blocks,
    compiled_shapes,
    follow_layout,
    forward_pass,
    set_layout,
    uncompiled,
)
from anystory.training.launch.options import RunOptions
from anystory.training.recipe import StageConfig
from anystory.training.stages.diffusion import DiffusionStage
from anystory.training.stages.personal import target_rows
from anystory.training.stages.stage import Stage, move
from anystory.training.state.optimizers import build_optimizer
from anystory.training.trainer import train

_WARM_UP = 2
"""Steps of the loop that are not timed: the first is always logged."""

_NEVER = 10**9


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """How a step computes."""

    name: str
    """What it adds to the settings before it."""
    fused: bool = False
    """The recipe's optimizer: all of AdamW in one operation, or another one."""
    quick: bool = False
    """Attention in the form that trains quickest on a CPU."""
    precision: Precision = "fp32"
    cached: bool = False
    """What the frozen encoders make of pictures and captions was computed before."""
    channels_last: bool = False
    compiled: bool = False

    def around_forward(self, device: torch.device) -> AbstractContextManager[Any]:
        """What the forward pass runs in."""
        if self.quick or device.type != "cpu":
            return forward_pass(device, self.precision)
        return nullcontext() if self.precision == "fp32" else torch.autocast("cpu", torch.bfloat16)


def settings_in_turn(
    device: torch.device, *, channels_last: bool, compiled: bool, bf16_base: bool = False, optimizer: str = "adamw"
) -> list[StepSettings]:
    """Plain torch first; each further one adds one thing to those before, as far as it does something on `device`.

    Args:
        device: where the steps are taken.
        channels_last, compiled: whether these are among them.
        bf16_base: the frozen base is in bf16, so that nothing trains in fp32.
        optimizer: the recipe's.
    """
    found = [StepSettings(name="plain", precision="bf16" if bf16_base else "fp32")]

    def add(name: str, wanted: bool, **changes: Any) -> None:
        if wanted:
            found.append(replace(found[-1], name=f"+ {name}", **changes))

    add("fused AdamW" if optimizer == "adamw" else f"optimizer {optimizer}", True, fused=True)
    add("bf16", bf16_is_native(device) and not bf16_base, precision="bf16")
    add("quick attention", device.type == "cpu", quick=True)
    add("cached latents and text", True, cached=True)
    add("channels-last", channels_last, channels_last=True)
    add("compiled blocks", compiled, compiled=True)
    return found


def steps_clock(device: torch.device) -> Callable[[], float]:
    """Seconds from anywhere: by the clock on the wall, or with a single thread on a CPU those that a core has worked
    for this process, whatever else runs beside it."""
    if device.type == "cpu":
        return time.process_time if torch.get_num_threads() == 1 else time.perf_counter

    def now() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return now


class StageSteps:
    """One stage with one batch at hand.

    Args:
        stage: whose steps are taken; its weights hardly change by them.
        config: the recipe's settings of it. Weights stay on the device, and every batch is a step.
        accelerator: of one process.
        compiled: compile the heavy blocks; settings that are not compiled run them as written.
    """

    def __init__(
        self, stage: DiffusionStage, config: StageConfig, accelerator: Accelerator, *, compiled: bool = False
    ) -> None:
        self.stage, self.accelerator, self.device = stage, accelerator, accelerator.device
        self.config = config.model_copy(
            update={"global_batch": None, "masters": "device", "learning_rate": 1e-9, "minutes": None, "steps": _NEVER}
            | {"sample_every": _NEVER, "validate_every": 0, "checkpoint_minutes": float(_NEVER)}
        )
        self._now = steps_clock(self.device)
        set_layout(stage, self.device, channels_last=False)
        self.parameters = stage.freeze_rest()
        self.compiled = compiled
        if compiled:
            compile_blocks(stage)
        fetch = stage.fetch()
        self.batch = move(collate([fetch(i) for i in range(config.batch_size)]), self.device)
        self.targets: int = getattr(stage.options, "targets", 1)
        """Pictures of a sample."""
        self.cached_batch = self._cached()

    def bare(self, settings: StepSettings, *, optimizer: bool = True) -> Callable[[int], float]:
        """A function that takes a number of steps and returns the seconds of one: forward, backward, optimizer."""
        kept = self._optimizer(settings) if optimizer else None
        batch = self.cached_batch if settings.cached else self.batch
        seeds = count()

        def step() -> None:
            with settings.around_forward(self.device):
                losses = self.stage(batch, torch.Generator(device=self.device).manual_seed(next(seeds)))
            losses["loss"].backward()
            if kept is not None:
                kept.step()
            for parameter in self.parameters.values():
                parameter.grad = None

        # `timeit` takes two steps before those that it times: the optimizer makes its moments in the first.
        timer = Timer("step()", globals={"step": step}, timer=self._now, num_threads=torch.get_num_threads())

        def run(steps: int) -> float:
            set_layout(self.stage, self.device, settings.channels_last)
            if kept is not None:
                follow_layout(kept)
            with self._compilation(settings):
                return timer.timeit(steps).mean

        return run

    def loop(self, settings: StepSettings) -> Callable[[int], float]:
        """The same of the training loop itself with these settings: whole steps, its log among them."""
        batch = self.cached_batch if settings.cached else self.batch
        samples = [
            {key: value[i].cpu() if isinstance(value, Tensor) else value[i] for key, value in batch.items()}
            for i in range(self.config.batch_size)
        ]

        def run(steps: int) -> float:
            timed = _TimedStage(self.stage, samples, steps, self._now)
            # At its own cadence or more often: every turn has a record to write.
            config = self.config.model_copy(update={"log_every": min(self.config.log_every, steps)})
            with tempfile.TemporaryDirectory() as folder:
                options = RunOptions(
                    out=Path(folder),
                    model=Path(folder) / "model",
                    steps=_NEVER,
                    workers=0,
                    precision=settings.precision,
                    compile=settings.compiled,
                    channels_last=settings.channels_last,
                    quiet=True,
                )
                try:
                    train(timed, config, options, self.accelerator)
                except _EnoughError:
                    return timed.seconds / steps
                finally:
                    self.accelerator.free_memory()
            raise AssertionError("the budget is never spent")

        return run

    def _optimizer(self, settings: StepSettings) -> torch.optim.Optimizer:
        if settings.fused:
            return build_optimizer(self.config, self.parameters)
        rates = {"lr": self.config.learning_rate, "betas": self.config.betas, "weight_decay": self.config.weight_decay}
        return torch.optim.AdamW(self.parameters.values(), **rates)

    def _compilation(self, settings: StepSettings) -> AbstractContextManager[Any]:
        if not self.compiled:
            return nullcontext()
        return compiled_shapes() if settings.compiled else uncompiled()

    @torch.no_grad()
    def _cached(self) -> Sample:
        """The batch with what the stage would read from a cache: of the encoders that it does not train."""
        batch = {key: value for key, value in self.batch.items() if key != "image"}
        rows = target_rows(self.batch) if self.targets > 1 else self.batch
        found: dict[str, Tensor] = {}
        with forward_pass(self.device, "auto"):
            found["latents"] = self.stage.clean_latents(rows)
            if not any(parameter.requires_grad for parameter in self.stage.texts.parameters()):
                found["text_hidden"], found["text_pooled"] = self.stage.text(rows)
        if self.targets > 1:
            found = {key: value.unflatten(0, (-1, self.targets)) for key, value in found.items()}
        return batch | found


class _EnoughError(Exception):
    """Leaves the loop without a checkpoint, pictures or an export."""


class _TimedStage(Stage):
    """A stage as the loop sees it, whose samples are at hand; it ends the run when `steps` steps have been timed."""

    def __init__(self, stage: Stage, samples: list[Sample], steps: int, now: Callable[[], float]) -> None:
        super().__init__()
        self.stage, self.name = stage, stage.name
        self.samples, self.steps, self.now = samples, steps, now
        self.seen, self.began, self.seconds = 0, 0.0, 0.0

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        return self.stage.trained_parameters()

    def fetch(self) -> Callable[[int], Sample]:
        return lambda position: self.samples[position % len(self.samples)]

    def forward(self, batch: Sample, generator: torch.Generator) -> dict[str, Tensor]:
        if self.seen == _WARM_UP:
            self.began = self.now()
        elif self.seen == _WARM_UP + self.steps:
            self.seconds = self.now() - self.began
            raise _EnoughError
        self.seen += 1
        return self.stage(batch, generator)

    def sample_picture(self) -> Image.Image:
        raise AssertionError("no pictures are drawn")

    def export(self, folder: Path) -> None:
        raise AssertionError("nothing is exported")
