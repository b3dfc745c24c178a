"""One `anystory train` command from its first file to its last: what `run` starts, `resume` goes on with."""

from __future__ import annotations

from pathlib import Path

import torch

from .devices import make_accelerator
from .mini import begin_with, check_run, check_start, pack, run_stages
from .run_file import RunFile


def launch(run: RunFile, out: Path, *, resume: bool, quiet: bool = False) -> int | None:
    """Train the run's stages in folder `out`; returns the packed model's size in bytes where it is to be packed.

    `run.json` is written once everything has been checked that can be, and before anything is trained.

    Raises:
        ValueError: a mistake in what was asked for; nothing has been changed then.
        RunFailed, KeyboardInterrupt: see `anystory.training.loop.train`.
    """
    options = run.run_options(out, resume=resume, quiet=quiet)
    if run.threads:
        torch.set_num_threads(run.threads)
    source = Path(run.start) if run.start is not None else None
    begun = resume and (options.model / "model_index.json").exists()
    if source is not None and not begun:
        check_start(source, options.model)
    check_run(run.stages, run.recipe, options)
    accelerator = make_accelerator()
    if accelerator.is_main_process:
        run.write(out)
        if source is not None and not begun:
            begin_with(source, options.model)
    accelerator.wait_for_everyone()
    run_stages(run.stages, run.recipe, options, run.minutes, accelerator)
    if run.pack_to is None or not accelerator.is_main_process:
        return None
    return pack(options.model, run.pack_to, run.recipe)
