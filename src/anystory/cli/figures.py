"""`anystory figures`: the paper's figures, drawn from a model that you name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anystory.cli.flags.model import Threads
from anystory.cli.flags.outputs import OutFolder, Overwrite, check_out_folder
from anystory.cli.terminal.libraries import quiet_libraries
from anystory.engine.limits import MOST_SEED, MOST_STEPS
from anystory.evaluation.figures.names import FIGURES, parse_figures

__all__ = ["figures"]


def figures(
    out: OutFolder = Path("figures"),
    model: Annotated[str, typer.Option(help="An embedded model (mini), or a folder.")] = "mini",
    only: Annotated[str | None, typer.Option(help=f"Only these, separated by commas: {', '.join(FIGURES)}.")] = None,
    n: Annotated[int, typer.Option("--n", "-n", min=8, help="Held-out cases.")] = 128,
    level: Annotated[str, typer.Option(help="StoryWorld level of the cases.")] = "level1",
    steps: Annotated[
        int | None, typer.Option(min=1, max=MOST_STEPS, help="Sampling steps; by default the model's.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed of the noise.")] = 0,
    threads: Threads = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw the paper's figures as PNG, each with its table as CSV, and a page with what they say.

    Rows of pictures are kept in OUT/rows and not drawn again for the same model and settings.
    """
    names = parse_figures(only)
    check_out_folder(out)
    if not overwrite:
        for name in names:
            if (out / f"{name}.png").exists() or (out / f"{name}.csv").exists():
                raise ValueError(
                    f"{out / name}.png or .csv is there: name another --out, or replace it with --overwrite"
                )
    quiet_libraries(threads or 0)
    from anystory.evaluation.figures.run import draw_figures

    draw_figures(names, model=model, number=n, level=level, seed=seed, steps=steps, out=out, overwrite=overwrite)
