"""`anystory eval`: measure a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anystory.cli.drawing import quiet_libraries

app = typer.Typer(help="Measure a model.", no_args_is_help=True, add_completion=False)


@app.callback()
def _verbs() -> None:
    """Measure a model."""


@app.command()
def storyworld(
    model: Annotated[str, typer.Option(help="An embedded model (mini), or a folder.")] = "mini",
    split: Annotated[str, typer.Option(help="heldout (identities that training never sees) or train.")] = "heldout",
    level: Annotated[str, typer.Option(help="StoryWorld level: level1, level2, level3 or a level file.")] = "level1",
    n: Annotated[int, typer.Option("--n", "-n", min=4, help="Pictures per row.")] = 256,
    rows: Annotated[str | None, typer.Option(help="Only these rows, with commas between; default all.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps; by default the model's.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; by default the model's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Pictures drawn at a time.")] = 16,
    judge: Annotated[Path | None, typer.Option(help="A judge's folder; by default the one that ships.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="Threads of the computation; 0 is torch's own choice.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Keep pictures, scores and a page here; finished rows are not drawn again.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the whole table to this file.")] = None,
) -> None:
    """Are the given characters in the picture that was asked for? Prints one table, with and without each part."""
    from anystory.evaluation.storyworld.variants import parse_rows

    chosen = parse_rows(rows)
    if out is not None and out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, but {out} is a file")
    quiet_libraries()
    import torch

    from anystory.evaluation.storyworld.report import evaluate

    if threads:
        torch.set_num_threads(threads)
    evaluate(
        model=model,
        variants=chosen,
        level=level,
        split=split,
        number=n,
        steps=steps,
        guidance=guidance,
        seed=seed,
        batch=batch,
        judge_folder=judge,
        out=out,
        json_path=json,
    )
