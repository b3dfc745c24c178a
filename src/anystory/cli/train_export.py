"""`anystory train export RUN`: a checkpoint of a run as a model, without training further."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from anystory.cli.drawing import quiet_libraries


def export(
    folder: Annotated[Path, typer.Argument(help="The run folder that --out named.", metavar="RUN")],
    out: Annotated[Path, typer.Option(help="Folder for the model; it must not exist yet, or be empty.")],
    stage: Annotated[
        str | None, typer.Option(help="Whose checkpoint; if not given, the last stage's that has one.")
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="best, last or step-N; if not given, the best where validation ran, else the last."),
    ] = None,
) -> None:
    """Write a checkpoint's averaged weights as the end of its stage would have: for --model, or --adapter on a base."""
    quiet_libraries()
    from anystory.training.checkpoint_export import export_checkpoint

    found = export_checkpoint(folder, out, cast(Any, stage), checkpoint)
    if found.figure is None:
        said = "not validated"
    else:
        said = f"validated {found.figure.name} {found.figure.value:.6g}"
    print(f"{out}: stage {found.stage}, step {found.progress.step} ({said})")
    if found.stale:
        print(f"note: {', '.join(found.stale)} learned on other weights than those in {out}", file=sys.stderr)
    print(f"draw with it: anystory generate … {'--adapter' if found.adapter_only else '--model'} {out}")
