"""The trainer of one stage: steps, validation, sample pictures, checkpoints and the export of its weights.

What is trained, on what and how it is scored is a `Stage`; processes and devices are accelerate's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from torch import Tensor

from anystory.training.bad_step import describe_bad_step, save_bad_step
from anystory.training.data.batches import OpenBatches, open_batches
from anystory.training.data.stream import Sample, told_worker_deaths
from anystory.training.failures import DrawingFailed, NotFinite, is_disk_full
from anystory.training.launch.devices import (
    can_compile,
    compile_blocks,
    compiled_shapes,
    computes_in,
    forward_pass,
    make_accelerator,
    set_layout,
    uncompiled,
)
from anystory.training.launch.options import Budget, RunOptions, finished_at
from anystory.training.launch.stopping import StopRequest, interruption
from anystory.training.model.exports import note_export
from anystory.training.non_finite import GuardedStep, NonFiniteGuard
from anystory.training.progress import TrainingProgress
from anystory.training.recipe import StageConfig
from anystory.training.runlog import LOG, RunLog, read_log
from anystory.training.stages.stage import Stage, move
from anystory.training.state.checkpoint import Metric, join_checkpoint
from anystory.training.state.checkpoints import Checkpoints, find_checkpoint
from anystory.training.state.optimizers import keeps_channels_last
from anystory.training.state.schedules import learning_rate
from anystory.training.state.sharding import is_sharded
from anystory.training.state.train_state import Progress
from anystory.training.state.trained_weights import TrainedWeights
from anystory.training.validation import PREFIX, held_out_batches


def step_seed(seed: int, step: int, rank: int, part: int = 0) -> int:
    """The seed of everything random in one batch of a step: a function of its arguments, so nothing needs saving."""
    return (((seed * 1_000_003 + step) * 1_009 + rank) + part * 7_368_787) % 2**63


def train(
    stage: Stage,
    config: StageConfig,
    options: RunOptions,
    accelerator: Accelerator | None = None,
    stop: StopRequest | None = None,
    begin: Callable[[], None] = lambda: None,
    batches: OpenBatches = open_batches,
) -> Progress:
    """Train one stage until its budget is spent, and return its progress.

    With `options.resume` the run continues from its last checkpoint, on the same sample stream. A stage whose budget is
    spent and whose weights are in the model folder already is left as it is.

    Args:
        stage: what is trained.
        config: the recipe's settings of it.
        options: this run's.
        accelerator: processes and devices; made here if not given.
        stop: the caller's watch for signals, if it keeps one.
        begin: called when all that the stage begins with has been read, and nothing has been written yet.
        batches: opens the samples that it is trained on; by default as the options say.

    Raises:
        ValueError: the folder holds a checkpoint and `resume` was not asked for, or it does not fit the model; there is
            no budget.
        NotFinite: a loss or gradient is not a number; the step is saved in `nan-step-N`.
        DiskFull: something could not be written; the last good checkpoint is as it was.
        KeyboardInterrupt: the run was stopped by Ctrl-C, or by SIGTERM (`Terminated`); a checkpoint has been written.
    """
    accelerator = accelerator or make_accelerator()
    folder = options.out / stage.name
    if find_checkpoint(folder) and not options.resume:
        raise ValueError(f"{folder} already holds a checkpoint: resume it with --resume, or choose another --out")
    if options.prerender is not None and accelerator.num_processes > 1:
        raise ValueError("--prerender works in one process: leave it out or run without accelerate launch")
    finished = finished_at(stage.name, config, options) if options.resume else None
    if finished is not None:
        return finished
    trainer = Trainer(stage, config, options, accelerator, batches)
    begin()
    with nullcontext(stop) if stop else StopRequest() as stopping:
        trainer.run(stopping)
    return trainer.state.progress


class Trainer:
    """Trains one stage: `run` takes steps and calls the other methods when they are due.

    Making one prepares the stage for the run's devices and reads the newest checkpoint. Every process makes its own and
    runs it; the main process writes.

    Args and errors: see `train`.
    """

    def __init__(
        self,
        stage: Stage,
        config: StageConfig,
        options: RunOptions,
        accelerator: Accelerator,
        batches: OpenBatches = open_batches,
    ) -> None:
        self.stage, self.config, self.options, self.accelerator = stage, config, options, accelerator
        self._open_batches = batches
        self.device = accelerator.device
        self.is_main_process = accelerator.is_main_process
        self.sharded = is_sharded(accelerator)
        self.evaluates = self.is_main_process or self.sharded
        """Whether this process validates and draws. Where weights are sharded, every process does the same."""
        self.folder = options.out / stage.name
        self.budget = Budget.of(stage.name, config, options)
        self.parts = config.accumulation(accelerator.num_processes)
        """Batches that this process computes for a step."""
        self.checkpoints = Checkpoints(self.folder, config.keep_last)
        found = self._newest_checkpoint()
        stage.begin(resumed=found is not None)
        self.compiled = self._prepare_stage()
        self.weights = TrainedWeights(stage, config, accelerator, computes_in(self.device, options.precision))
        self.state = self.weights.state
        if found is not None:
            self.weights.load(found)
        if self.is_main_process and (self.folder / LOG).exists():
            read_log(self.folder / LOG)  # a damaged one is refused before anything is written
        self.guard = NonFiniteGuard(
            self.weights.optimizer,
            self.weights.device,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
        )
        self.metric: Metric | None = None
        """Validation's, of the weights as they are; None between two validations."""
        self.validated: dict[str, float] = {}
        """The last validation's main metric, for the bar."""
        self.held_out: list[Sample] = []

    def _newest_checkpoint(self) -> Path | None:
        """The checkpoint to resume from: the main process looks for all, and sets damaged ones aside."""
        found = [self.checkpoints.newest() if self.is_main_process else None]
        if self.accelerator.num_processes > 1:
            broadcast_object_list(found)
        return found[0]

    def _prepare_stage(self) -> bool:
        """Move the stage to its device; returns whether its blocks are compiled."""
        on_gpu, asked = self.device.type == "cuda", self.options.channels_last
        channels_last = keeps_channels_last(self.config, asked, default=on_gpu and not self.sharded)
        set_layout(self.stage, self.device, channels_last)
        compiled = on_gpu and can_compile() if self.options.compile is None else self.options.compile
        if compiled:
            compile_blocks(self.stage)
        return compiled

    def run(self, stop: StopRequest) -> None:
        """Train until the budget is spent or a signal comes; then write a checkpoint, and at the end the model.

        Raises:
            NotFinite, DiskFull, KeyboardInterrupt: see `train`.
        """
        progress = self.state.progress
        batches = self._open_batches(self.stage, self.config, self.options, self.accelerator, progress.samples)
        self.log = RunLog(self.folder, progress, enabled=self.is_main_process)
        self.bar = TrainingProgress(self.stage.name, enabled=self.is_main_process and not self.options.quiet)
        self._first_step, self._began = progress.step, time.monotonic() - progress.seconds
        self._last_checkpoint = time.monotonic()
        with (
            torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []),
            self.bar,
            compiled_shapes() if self.compiled else nullcontext(),
        ):
            try:
                with told_worker_deaths():  # in the middle of a step, too
                    self._run(batches, stop)
            except (OSError, SafetensorError) as error:
                if is_disk_full(error):
                    raise self.checkpoints.no_room(error) from error
                raise
            finally:
                self.log.close()
        self.accelerator.free_memory()  # it would keep every stage of a run
        self.accelerator.wait_for_everyone()  # the next stage reads what the main process has written

    def _run(self, batches: Iterator[Sample], stop: StopRequest) -> None:
        progress, every, checkpoint_is_due = self.state.progress, self.config.validate_every, False
        while True:
            spent, signal, checkpoint_is_due = self._agree(stop, checkpoint_is_due)
            if spent >= 1 or signal:
                break
            if checkpoint_is_due:
                self.checkpoint()
            try:
                drawn = [next(batches) for _ in range(self.parts)]
            except DrawingFailed:
                if not stop.asked:  # a signal to the whole process group kills the processes that draw, too
                    raise
                signal = int(stop.signal or 0)
                break
            self.step(drawn, spent)
            checkpoint_is_due = self._after_step()
        if not signal and progress.step > self._first_step and every and progress.step % every and self.evaluates:
            self.validate()
        self.checkpoint()
        if signal:
            self.bar.note(f"stopped at step {progress.step}: resume with `anystory train resume {self.options.out}`")
            raise interruption(signal)
        self.export()

    def _agree(self, stop: StopRequest, checkpoint_is_due: bool) -> tuple[float, int, bool]:
        """How much of the budget is spent, the signal that came or 0, and whether a checkpoint is due.

        The main process's clock counts for all: they must agree on the rate, on the last step and on checkpoints. A
        signal counts whichever process got it.
        """
        own = (self.budget.spent(self.state.progress), int(stop.signal or 0), checkpoint_is_due)
        if self.accelerator.num_processes == 1:
            return own
        words = self.accelerator.gather(torch.tensor([own], dtype=torch.float64, device=self.device))
        assert isinstance(words, Tensor)
        return float(words[0, 0]), int(words[:, 1].max()), bool(words[0, 2])

    def step(self, batches: Sequence[Sample], spent: float) -> None:
        """Take one step of the optimizer.

        Args:
            batches: whose gradients are accumulated, `parts` of them.
            spent: part of the budget that is spent, in [0, 1].

        Raises:
            NotFinite: a loss or gradient of this step is not a number, or on a GPU of the one before.
        """
        config, progress = self.config, self.state.progress
        rate = learning_rate(config, progress.step, spent)
        self.weights.set_rate(rate)
        self.guard.begin(progress.step + 1)
        losses = [self._forward_backward(batch, part) for part, batch in enumerate(batches)]
        norm = self.weights.clip()
        self._stop_at(self.guard.check(norm))
        self.weights.step(progress.step)
        progress.step += 1
        progress.samples += config.batch_size * self.accelerator.num_processes * self.parts
        progress.seconds = time.monotonic() - self._began
        self.metric = None
        if progress.step % config.log_every == 0 or progress.step == 1:
            values = {name: sum(float(own[name]) for own in losses) / self.parts for name in losses[0]}
            values |= {"learning_rate": rate, "grad_norm": float(norm)}
            self.log.scalars(values, progress)
            self.bar.update(self.budget.spent(progress), progress, values | self.validated)

    def _forward_backward(self, batch: Sample, part: int) -> dict[str, Tensor]:
        """Add the gradients of one batch of a step; returns its losses."""
        device = self.device
        batch = move(batch, device)
        seed = step_seed(self.options.seed, self.state.progress.step, self.accelerator.process_index, part)
        torch.manual_seed(seed)  # dropout and the like, which know no generator of their own
        # Gradients are sent around with the last batch; FSDP2 shards them only by sending them around.
        sends = part + 1 == self.parts or self.sharded
        with nullcontext() if sends else self.accelerator.no_sync(self.weights.module):
            with forward_pass(device, self.options.precision):
                losses = self.weights.module(batch, torch.Generator(device=device).manual_seed(seed))
            self.guard.record(batch, seed, losses)
            self.accelerator.backward(losses["loss"] / self.parts)
        return {name: value.detach() for name, value in losses.items()}

    def _stop_at(self, bad: GuardedStep | None) -> None:
        """Raises NotFinite, in every process, for a step that is not a number; it is saved first."""
        if bad is None:
            return
        save_bad_step(
            self.folder,
            bad,
            parameters=self.state.parameters,
            precision=self.options.precision,
            rank=self.accelerator.process_index,
            checkpoint=find_checkpoint(self.folder),
        )
        self.accelerator.wait_for_everyone()  # a launcher kills those that still write when the first one ends
        raise NotFinite(describe_bad_step(self.stage.name, bad, self.folder, self.options.precision))

    def _after_step(self) -> bool:
        """Draw and validate if it is time; returns whether a checkpoint is due."""
        if not self.evaluates:
            return False
        step, config = self.state.progress.step, self.config
        if step % config.sample_every == 0:
            self.draw()
        if config.validate_every and step % config.validate_every == 0:
            self.validate()
        if time.monotonic() - self._last_checkpoint > 60 * config.checkpoint_minutes:
            return True
        return self.metric is not None and self.metric.is_better_than(self.checkpoints.best())

    @contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """Inside, any part of the stage can be run by itself, with the averaged weights."""
        with self.weights.averaged(), self.weights.unsharded(), uncompiled():
            yield

    def validate(self) -> None:
        """Score the averaged weights on held-out samples, log what comes out, and keep the main metric."""
        stage, config = self.stage, self.config
        if not self.held_out:
            self.held_out = held_out_batches(stage.held_out(), config.validate_samples, config.batch_size)
        with self._averaged_weights(), forward_pass(self.device, self.options.precision):
            metrics = stage.validate(self.held_out)
        main = Metric(stage.main_metric, metrics[stage.main_metric], stage.larger_is_better)
        self.metric, self.validated = main, {f"{PREFIX}{main.name}": main.value}
        self.log.validation({f"{PREFIX}{name}": value for name, value in metrics.items()}, self.state.progress)

    def draw(self) -> None:
        """Log a picture of what the averaged weights have learned."""
        with self._averaged_weights():
            self.log.picture(self.stage.sample_picture(), self.state.progress)

    def checkpoint(self) -> None:
        """Write a checkpoint, with the metric if the weights have just been validated.

        Raises:
            NotFinite: a step that was still under way on the GPU is not a number; nothing is written.
            DiskFull: there is no room.
        """
        self._stop_at(self.guard.flush())
        if self.is_main_process:
            self.checkpoints.save(self.state, self.metric)
        elif self.sharded:
            join_checkpoint(self.state)
        self._last_checkpoint = time.monotonic()

    def export(self) -> None:
        """Write the averaged weights into the model folder, and a last picture."""
        if self.evaluates:
            with self.weights.averaged(), uncompiled():
                with self.weights.unsharded():
                    self.stage.before_export()
                    self.log.picture(self.stage.sample_picture(), self.state.progress)
                if not self.sharded:
                    set_layout(self.stage, self.device, channels_last=False)  # files hold tensors contiguous
                self.stage.export(self.options.model)
        if self.is_main_process:
            note_export(self.options.model, self.stage.name, self.state.progress.step)
