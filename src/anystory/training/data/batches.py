"""The batches of a run: drawn as they are needed, or from samples that were drawn into memory before."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import torch
from accelerate import Accelerator
from torch import Tensor

from anystory.training.data.memory import SampleMemory, memory_batches
from anystory.training.data.prerender import DrawingProgress, draw_ahead
from anystory.training.data.stream import Sample, stream_batches
from anystory.training.launch.devices import forward_pass
from anystory.training.launch.options import RunOptions
from anystory.training.launch.stopping import StopRequest, interruption
from anystory.training.recipe import StageConfig
from anystory.training.stages.stage import Stage

OpenBatches = Callable[[Stage, StageConfig, RunOptions, Accelerator, int], Iterator[Sample]]
"""What gives a run its batches: `open_batches`, or another source of samples."""


def open_batches(
    stage: Stage, config: StageConfig, options: RunOptions, accelerator: Accelerator, position: int
) -> Iterator[Sample]:
    """This process's batches after `position` samples. With `options.prerender` the memory is filled first.

    Raises:
        ValueError, KeyboardInterrupt: see `draw_ahead`.
    """
    if options.prerender is None:
        return stream_batches(
            stage.fetch(),
            start=position,
            batch_size=config.batch_size,
            workers=options.workers,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
        )
    memory = draw_ahead(stage.fetch(), options.prerender, stage.name, options.quiet)
    encode_ahead(stage, memory, options, accelerator.device)
    kept = accelerator.device if memory.move_to(accelerator.device) else "main memory"
    if not options.quiet:
        size = memory.nbytes / 2**30
        print(f"[{stage.name}] {memory.count} samples, {size:.2f} GiB, kept on {kept}", file=sys.stderr, flush=True)
    return memory_batches(memory, start=position, batch_size=config.batch_size, seed=options.seed)


def encode_ahead(stage: Stage, memory: SampleMemory, options: RunOptions, device: torch.device) -> None:
    """Let the stage's frozen encoders run over the samples in memory once, for all epochs.

    What they make stays where the samples are.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM.
    """
    for column, encoders in stage.encoders_ahead().items():

        def encode(rows: Tensor, encoders: dict[str, Callable[[Tensor], Tensor]] = encoders) -> dict[str, Tensor]:
            with forward_pass(device, options.precision):
                moved = rows.to(device)
                return {name: make(moved).float().to(rows.device) for name, make in encoders.items()}

        doing = f"encoding {column}"
        with StopRequest() as stop, DrawingProgress(stage.name, memory.count, not options.quiet, doing) as bar:
            for done in memory.encode(column, encode):
                if stop.signal:
                    raise interruption(stop.signal)
                bar.update(done)
