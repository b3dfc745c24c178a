"""`anystory train average MODEL OTHER`: what lies between two trainings of one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anystory.cli.flags.outputs import check_out_folder
from anystory.cli.terminal.libraries import quiet_libraries


def average(
    model: Annotated[str, typer.Argument(help="A model's or an adapter's folder, or an embedded model (mini).")],
    other: Annotated[str, typer.Argument(help="Another training of the same model.")],
    out: Annotated[Path, typer.Option(help="Folder for the model; it must not exist yet, or be empty.")],
    share: Annotated[float, typer.Option(help="How much of OTHER: 0 is MODEL, 1 is OTHER.")] = 0.5,
) -> None:
    """Average the weights of two trainings of one model; often it is as good as either, or better: measure it."""
    check_out_folder(out)
    quiet_libraries()
    from anystory.pipelines.loading.assets import resolve_model
    from anystory.training.model.averaging import average_models

    differing = average_models(Path(resolve_model(model)), Path(resolve_model(other)), out, share)
    print(f"{out}: averaged {', '.join(differing) or 'nothing, the two are the same'}")
