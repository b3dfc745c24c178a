"""The one training loop. What is trained, on what and how it is scored is a `Stage`; devices are accelerate's."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from torch import Tensor

from .checkpoint import Figure, Progress, attend_checkpoint, read_progress
from .checkpoints import Checkpoints, find_checkpoint
from .devices import (
    can_compile,
    compile_blocks,
    compiled_shapes,
    computes_in,
    forward_pass,
    make_accelerator,
    set_layout,
    uncompiled,
)
from .exports import note_export
from .failures import NotFinite, is_disk_full
from .finite import FiniteWatch, WatchedStep
from .memory import memory_batches
from .optimizers import keeps_channels_last
from .options import Budget, RunOptions, finished_at
from .prerender import draw_ahead
from .progress import TrainingProgress
from .recipe import StageConfig
from .rescue import bad_step_sentence, save_bad_step
from .runlog import RunLog
from .schedules import learning_rate
from .sharding import is_sharded
from .stage import Stage, move
from .stopping import StopRequest, interruption
from .stream import Sample, stream_batches
from .trained import Trained
from .validation import PREFIX, held_out_batches
from .zero import is_zero


def step_seed(seed: int, step: int, rank: int, part: int = 0) -> int:
    """The seed of everything random in one batch of a step: a function of its arguments, so nothing needs saving."""
    return (((seed * 1_000_003 + step) * 1_009 + rank) + part * 7_368_787) % 2**63


def train(
    stage: Stage,
    config: StageConfig,
    options: RunOptions,
    accelerator: Accelerator | None = None,
    stop: StopRequest | None = None,
) -> Progress:
    """Train one stage until its budget is spent, logging, validating, drawing samples and writing checkpoints.

    Returns the progress at the end. With `options.resume` the run continues at the position where the last checkpoint
    was written, on the same sample stream. A stage whose budget is spent and whose weights are in the model folder
    already is left as it is.

    Args:
        stage: what is trained.
        config: the recipe's settings of it.
        options: this run's.
        accelerator: processes and devices; made here if not given.
        stop: the caller's watch for signals, if it keeps one.

    Raises:
        ValueError: the folder holds a checkpoint and `resume` was not asked for, or it does not fit the model; there is
            no budget.
        NotFinite: a loss or gradient is not a number; the step is saved in `nan-step-N`.
        DiskFull: something could not be written; the last good checkpoint is as it was.
        KeyboardInterrupt: the run was stopped by Ctrl-C, or by SIGTERM (`Terminated`); a checkpoint has been written.
    """
    accelerator = accelerator or make_accelerator()
    world, rank, chief = accelerator.num_processes, accelerator.process_index, accelerator.is_main_process
    folder = options.out / stage.name
    budget = Budget.of(stage.name, config, options)
    if find_checkpoint(folder) and not options.resume:
        raise ValueError(f"{folder} already holds a checkpoint: continue it with --resume or choose another --out")
    if options.resume and finished_at(stage.name, config, options):
        return read_progress(find_checkpoint(folder) or folder)
    store = Checkpoints(folder, config.keep_last)
    found = _newest(store, accelerator)

    on_gpu = accelerator.device.type == "cuda"
    sharded = is_sharded(accelerator)  # weights in pieces
    together = sharded or is_zero(accelerator)  # moments, too: a checkpoint needs every process
    parts = config.accumulation(world)
    channels_last = keeps_channels_last(config, options.channels_last, default=on_gpu and not together)
    set_layout(stage, accelerator.device, channels_last)
    compiled = on_gpu and can_compile() if options.compile is None else options.compile
    if compiled:
        compile_blocks(stage)
    trained = Trained(stage, config, accelerator, computes_in(accelerator.device, options.precision))
    progress = trained.load(found) if found else Progress()
    batches = _batches(stage, config, options, accelerator, progress.samples)
    held_out: list[Sample] = []
    log = RunLog(folder, progress, enabled=chief)
    bar = TrainingProgress(stage.name, enabled=chief and not options.quiet)
    watch = FiniteWatch(trained.optimizer, trained.device, rank=rank, world=world)
    start, before, began = time.monotonic(), progress.seconds, progress.step
    last_checkpoint = start
    signal_number = 0
    figure: Figure | None = None
    due = False
    validated: dict[str, float] = {}

    def give_up_on(bad: WatchedStep | None) -> None:  # every process does, of the same step
        if bad is not None:
            save_bad_step(
                folder,
                bad,
                parameters=trained.parameters,
                precision=options.precision,
                rank=rank,
                checkpoint=find_checkpoint(folder),
            )
            accelerator.wait_for_everyone()  # a launcher kills those that still write when the first one ends
            raise NotFinite(bad_step_sentence(stage.name, bad, folder, options.precision))

    def checkpoint(figure: Figure | None = None) -> None:
        give_up_on(watch.settle())
        if chief:
            store.save(trained.state, progress, figure)
        elif together:
            attend_checkpoint(trained.state)

    def draw() -> None:
        with trained.averaged(), trained.gathered(), uncompiled():
            log.picture(stage.sample_picture(), progress)

    def validate() -> Figure:
        if not held_out:
            held_out.extend(held_out_batches(stage.held_out(), config.validate_samples, config.batch_size))
        with (
            trained.averaged(),
            trained.gathered(),
            uncompiled(),
            forward_pass(accelerator.device, options.precision),
        ):
            figures = stage.validate(held_out)
        log.validation({f"{PREFIX}{name}": value for name, value in figures.items()}, progress)
        validated[f"{PREFIX}{stage.main_figure}"] = figures[stage.main_figure]
        return Figure(stage.main_figure, figures[stage.main_figure], stage.larger_is_better)

    with (
        nullcontext(stop) if stop else StopRequest() as stopping,
        torch.random.fork_rng(devices=[accelerator.device] if on_gpu else []),
        bar,
        compiled_shapes() if compiled else nullcontext(),
    ):
        try:
            while True:
                # One clock for all processes: they must agree on the rate, on the last step and on checkpoints.
                own = (budget.spent(progress), int(stopping.signal or 0), due)
                fraction, signal_number, due = _agree(accelerator, *own)
                if fraction >= 1 or signal_number:
                    break
                if due:
                    checkpoint(figure)
                    last_checkpoint, due = time.monotonic(), False
                rate = learning_rate(config, progress.step, fraction)
                trained.set_rate(rate)
                watch.begin(progress.step + 1)
                seen: list[dict[str, Tensor]] = []
                for part in range(parts):
                    drawn = _next(batches, stopping)
                    if drawn is None:
                        break
                    batch, seed = move(drawn, accelerator.device), step_seed(options.seed, progress.step, rank, part)
                    torch.manual_seed(seed)  # dropout and the like, which know no generator of their own
                    # Of weights in pieces gradients are in pieces too only once they have been sent around.
                    sends = part + 1 == parts or sharded
                    with nullcontext() if sends else accelerator.no_sync(trained.module):
                        with forward_pass(accelerator.device, options.precision):
                            losses = trained.module(batch, torch.Generator(device=accelerator.device).manual_seed(seed))
                        watch.saw(batch, seed, losses)
                        trained.backward(losses["loss"] / parts, last=part + 1 == parts)
                    seen.append({name: value.detach() for name, value in losses.items()})
                if len(seen) < parts:  # what a part of a step has gathered is dropped: resuming draws it again
                    signal_number = int(stopping.signal or 0)
                    break
                norm = trained.clip()
                give_up_on(watch.judge(norm))
                trained.step(progress.step)
                progress.step += 1
                progress.samples += config.batch_size * world * parts
                progress.seconds = before + time.monotonic() - start
                if progress.step % config.log_every == 0 or progress.step == 1:
                    values = {name: sum(float(losses[name]) for losses in seen) / parts for name in seen[0]}
                    values |= {"learning_rate": rate, "grad_norm": float(norm)}
                    log.scalars(values, progress)
                    bar.update(budget.spent(progress), progress, values | validated)
                if not (chief or sharded):  # where weights are in pieces every process draws and validates the same
                    continue
                if progress.step % config.sample_every == 0:
                    draw()
                validates = config.validate_every and progress.step % config.validate_every == 0
                figure = validate() if validates else None
                late = time.monotonic() - last_checkpoint > 60 * config.checkpoint_minutes
                due = late or (figure is not None and figure.beats(store.best()))
            ended = not signal_number and progress.step > began
            if ended and config.validate_every and progress.step % config.validate_every and (chief or sharded):
                figure = validate()
            checkpoint(figure)
            if signal_number:
                bar.note(f"stopped at step {progress.step}: go on with anystory train resume {options.out}")
                raise interruption(signal_number)
            if chief or sharded:
                with trained.averaged(), uncompiled():
                    with trained.gathered():
                        stage.before_export()
                        log.picture(stage.sample_picture(), progress)
                    if not sharded:
                        set_layout(stage, accelerator.device, channels_last=False)  # files hold tensors as named
                    stage.export(options.model)
            if chief:
                note_export(options.model, stage.name, progress.step)
        except (OSError, SafetensorError) as error:
            if is_disk_full(error):
                raise store.no_room(error) from error
            raise
        finally:
            log.close()
    accelerator.free_memory()  # it would keep every stage of a run
    # The next stage reads what the chief has written.
    accelerator.wait_for_everyone()
    return progress


def _newest(store: Checkpoints, accelerator: Accelerator) -> Path | None:
    """The checkpoint to go on from: the main process looks, and sets damaged ones aside, for all."""
    found = [store.newest() if accelerator.is_main_process else None]
    if accelerator.num_processes > 1:
        broadcast_object_list(found)
    return found[0]


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


def _agree(accelerator: Accelerator, fraction: float, number: int, due: bool) -> tuple[float, int, bool]:
    """The main process's word on how far the budget is spent and whether a checkpoint is due, and the signal that any
    process got, or 0.
    """
    if accelerator.num_processes == 1:
        return fraction, number, due
    own = torch.tensor([[fraction, float(number), float(due)]], dtype=torch.float64, device=accelerator.device)
    words = accelerator.gather(own)
    assert isinstance(words, Tensor)
    return float(words[0, 0]), int(words[:, 1].max()), bool(words[0, 2])


def _next(batches: Iterator[Sample], stop: StopRequest) -> Sample | None:
    """The next batch, or None: a signal to the whole process group kills the drawing processes, which is a stop too."""
    try:
        return next(batches)
    except RuntimeError:
        if stop.asked:
            return None
        raise
