"""`anystory train export RUN`: a checkpoint of a run as a model, without training further."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from anystory.cli.flags.outputs import check_out_folder
from anystory.cli.flags.training import RunFolder
from anystory.cli.terminal.libraries import quiet_libraries


def export(
    folder: RunFolder,
    out: Annotated[Path, typer.Option(help="Folder for the model; it must not exist yet, or be empty.")],
    stage: Annotated[
        str | None, typer.Option(help="The stage whose checkpoint to take; by default the last one that has any.")
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="best, last or step-N; by default the best if validation ran, else the last."),
    ] = None,
) -> None:
    """Write a checkpoint's averaged weights as its stage would at its end: for --model, or on a base for --adapter."""
    check_out_folder(out)
    quiet_libraries()
    from anystory.training.model.checkpoint_export import export_checkpoint

    found = export_checkpoint(folder, out, cast(Any, stage), checkpoint)
    if found.metric is None:
        said = "not validated"
    else:
        said = f"validated {found.metric.name} {found.metric.value:.6g}"
    print(f"{out}: stage {found.stage}, step {found.progress.step} ({said})")
    if found.stale:
        print(f"note: {', '.join(found.stale)} learned on other weights than those in {out}", file=sys.stderr)
    print(f"draw with it: anystory generate … {'--adapter' if found.adapter_only else '--model'} {out}")
