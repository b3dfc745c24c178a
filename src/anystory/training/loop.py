"""The one training loop. What is trained, on what and how it is scored is a `Stage`; devices are accelerate's."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from PIL import Image
from pydantic import BaseModel
from torch import Tensor, nn

from .checkpoint import Progress, find_checkpoint, load_checkpoint, save_checkpoint
from .devices import (
    Precision,
    can_compile,
    compile_blocks,
    compiled_shapes,
    follow_layout,
    forward_pass,
    make_accelerator,
    set_layout,
    uncompiled,
)
from .ema import NamedEMA
from .exports import exported_steps, note_export
from .memory import memory_batches
from .prerender import Prerender, draw_ahead
from .progress import TrainingProgress
from .recipe import StageConfig, StageName
from .runlog import RunLog
from .stopping import StopRequest
from .stream import Sample, stream_batches


class Stage(nn.Module, ABC):
    """One training stage: a module whose `forward(batch, generator)` returns named losses, `loss` among them.

    Frozen parts are attributes too; what is trained is exactly what `trained_parameters` names.
    """

    name: StageName
    options_type: type[BaseModel]
    """What the recipe may say of this stage alone."""

    @abstractmethod
    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """What the optimizer and the average see, by name, in a fixed order."""

    @abstractmethod
    def fetch(self) -> Callable[[int], Sample]:
        """A picklable pure function from a stream position to a sample."""

    @abstractmethod
    def forward(self, batch: Sample, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of one batch, scalars; `loss` is what is minimised, the others are logged."""

    @abstractmethod
    def sample_picture(self) -> Image.Image:
        """A fixed, seeded picture that shows what the stage has learned."""

    def before_export(self) -> None:
        """Called once with the averaged weights in place, before `export`."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the trained parts (now holding the averaged weights) into a model folder in diffusers' layout."""


@dataclass(frozen=True)
class RunOptions:
    """Where and how long one run goes on."""

    out: Path
    """Run folder; the stage writes below `out / stage.name`."""
    model: Path
    """Model folder that receives the exported weights."""
    resume: bool = False
    minutes: float | None = None
    """Overrides the recipe's budget of this stage, in minutes of training over all runs."""
    steps: int | None = None
    workers: int = 1
    seed: int = 0
    precision: Precision = "fp32"
    compile: bool | None = None
    """Compile the heavy blocks; None is on a GPU only."""
    channels_last: bool | None = None
    """Keep convolutions' weights channels-last in memory; None is on a GPU only."""
    prerender: Prerender | None = None
    """Draw so many samples into memory first and train on them, in epochs; None draws each when its turn comes."""
    quiet: bool = False


def learning_rate(config: StageConfig, step: int, fraction: float) -> float:
    """Warm-up by steps, then constant, then linear to a twentieth over the budget's last `decay_fraction`.

    `fraction` in [0, 1] is the part of the budget that is spent.
    """
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    left = (1 - fraction) / config.decay_fraction if config.decay_fraction else 1.0
    return config.learning_rate * warm * max(0.05, min(1.0, left))


def step_generator(seed: int, step: int, rank: int, device: torch.device) -> torch.Generator:
    """The generator of everything random in one step: a function of (seed, step, rank), so nothing needs saving."""
    mixed = (seed * 1_000_003 + step) * 1_009 + rank
    return torch.Generator(device=device).manual_seed(mixed % 2**63)


def move(batch: Sample, device: torch.device) -> Sample:
    """The batch with every tensor on `device`."""
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}


def train(stage: Stage, config: StageConfig, options: RunOptions, accelerator: Accelerator | None = None) -> Progress:
    """Train one stage until its budget is spent, logging, drawing samples and writing checkpoints on the way.

    Returns the progress at the end. With `options.resume` the run continues at the position where the last checkpoint
    was written, on the same sample stream. A stage whose budget is spent and whose weights are in the model folder
    already is left as it is.

    Raises:
        ValueError: the folder holds a checkpoint and `resume` was not asked for, or it does not fit the model; there is
            no budget; the loss is not a number any more.
        KeyboardInterrupt: the run was stopped (Ctrl-C, SIGTERM); a checkpoint has been written.
    """
    accelerator = accelerator or make_accelerator()
    folder = options.out / stage.name
    minutes = options.minutes if options.minutes is not None else (None if options.steps else config.minutes)
    steps = options.steps if options.steps is not None else config.steps
    if minutes is None and steps is None:
        raise ValueError(
            f"stage {stage.name!r} has no budget: set minutes or steps in the recipe or on the command line"
        )
    found = find_checkpoint(folder)
    if found and not options.resume:
        raise ValueError(f"{folder} already holds a checkpoint: continue it with --resume or choose another --out")

    parameters = stage.trained_parameters()
    for parameter in stage.parameters():
        parameter.requires_grad_(False)
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    on_gpu = accelerator.device.type == "cuda"
    channels_last = on_gpu if options.channels_last is None else options.channels_last
    set_layout(stage, accelerator.device, channels_last)
    optimizer = torch.optim.AdamW(
        parameters.values(),
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=True,
    )
    ema = NamedEMA(parameters, config.ema_decay)
    ema.model.to(accelerator.device)
    progress = load_checkpoint(found, parameters, ema.tensors, optimizer) if found else Progress()
    follow_layout(optimizer)

    def spent() -> float:
        by_steps = progress.step / steps if steps else 0.0
        by_time = progress.seconds / (60 * minutes) if minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    if found and spent() >= 1 and exported_steps(options.model).get(stage.name) == progress.step:
        return progress

    compiled = on_gpu and can_compile() if options.compile is None else options.compile
    if compiled:
        compile_blocks(stage)
    module, prepared_optimizer = accelerator.prepare(stage, optimizer)
    world, rank, chief = accelerator.num_processes, accelerator.process_index, accelerator.is_main_process
    batches = _batches(stage, config, options, accelerator, progress.samples)
    log = RunLog(folder, progress, enabled=chief)
    bar = TrainingProgress(stage.name, enabled=chief and not options.quiet)
    start, before = time.monotonic(), progress.seconds
    last_checkpoint = start
    losses: dict[str, Tensor] = {}

    def checkpoint() -> None:
        if losses and not bool(losses["loss"].isfinite()):
            raise ValueError(
                f"the loss of stage {stage.name!r} is not a number at step {progress.step}: lower its learning_rate, "
                f"then go on with --resume from the last checkpoint in {folder}"
            )
        if chief:
            save_checkpoint(folder, parameters, ema.tensors, optimizer, progress)

    with StopRequest() as stop, bar, compiled_shapes() if compiled else nullcontext():
        try:
            while True:
                # One clock for all processes: they must agree on the rate and on the last step.
                fraction, stopping = _agree(accelerator, spent(), stop.asked)
                if fraction >= 1 or stopping:
                    break
                drawn = _next(batches, stop)
                if drawn is None:
                    stopping = True
                    break
                batch = move(drawn, accelerator.device)
                rate = learning_rate(config, progress.step, fraction)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                with forward_pass(accelerator.device, options.precision):
                    losses = module(batch, step_generator(options.seed, progress.step, rank, accelerator.device))
                accelerator.backward(losses["loss"])
                norm = accelerator.clip_grad_norm_(list(parameters.values()), config.max_grad_norm)
                assert norm is not None  # it is None only under engines that we do not use
                prepared_optimizer.step()
                prepared_optimizer.zero_grad(set_to_none=True)
                ema.update(progress.step)
                progress.step += 1
                progress.samples += config.batch_size * world
                progress.seconds = before + time.monotonic() - start
                if progress.step % 20 == 0 or progress.step == 1:
                    values = {k: v.item() for k, v in losses.items()}
                    values |= {"learning_rate": rate, "grad_norm": float(norm)}
                    log.scalars(values, progress)
                    bar.update(spent(), progress, values)
                if progress.step % config.sample_every == 0 and chief:
                    with ema.applied(), uncompiled():
                        log.picture(stage.sample_picture(), progress)
                if time.monotonic() - last_checkpoint > 60 * config.checkpoint_minutes:
                    checkpoint()
                    last_checkpoint = time.monotonic()
            checkpoint()
            if stopping:
                bar.note(f"stopped at step {progress.step}: {folder} holds a checkpoint, go on with --resume")
                raise KeyboardInterrupt
            if chief:
                with ema.applied(), uncompiled():
                    stage.before_export()
                    log.picture(stage.sample_picture(), progress)
                    set_layout(stage, accelerator.device, channels_last=False)  # files hold tensors as they are named
                    stage.export(options.model)
                note_export(options.model, stage.name, progress.step)
        finally:
            log.close()
    # The next stage reads what the chief has written.
    accelerator.wait_for_everyone()
    return progress


def _batches(
    stage: Stage, config: StageConfig, options: RunOptions, accelerator: Accelerator, position: int
) -> Iterator[Sample]:
    """The batches after `position` samples: from memory, which is filled here and now, or drawn as they are needed."""
    if options.prerender is None:
        return stream_batches(
            stage.fetch(),
            start=position,
            batch_size=config.batch_size,
            workers=options.workers,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
        )
    if accelerator.num_processes > 1:
        raise ValueError("--prerender works in one process: leave it out or run without accelerate launch")
    memory = draw_ahead(stage.fetch(), options.prerender, stage.name, options.quiet)
    kept = accelerator.device if memory.move_to(accelerator.device) else "main memory"
    if not options.quiet:
        size = memory.nbytes / 2**30
        print(f"[{stage.name}] {memory.count} samples, {size:.2f} GiB, kept on {kept}", file=sys.stderr, flush=True)
    return memory_batches(memory, start=position, batch_size=config.batch_size, seed=options.seed)


def _agree(accelerator: Accelerator, fraction: float, stop: bool) -> tuple[float, bool]:
    """The main process's word on how far the budget is spent and whether to stop."""
    if accelerator.num_processes == 1:
        return fraction, stop
    word = broadcast(torch.tensor([fraction, float(stop)], device=accelerator.device), from_process=0)
    assert isinstance(word, Tensor)
    return float(word[0]), bool(word[1] > 0)


def _next(batches: Iterator[Sample], stop: StopRequest) -> Sample | None:
    """The next batch, or None: a signal to the whole process group kills the drawing processes, which is a stop too."""
    try:
        return next(batches)
    except RuntimeError:
        if stop.asked:
            return None
        raise
