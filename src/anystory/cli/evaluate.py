"""`anystory eval`: measure a model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from anystory.cli import eval_benchmarks
from anystory.cli.flags.model import Threads
from anystory.cli.flags.noise import Draws, Levels, parse_levels
from anystory.cli.flags.outputs import Overwrite, check_out_file, check_out_folder
from anystory.cli.terminal.libraries import quiet_libraries
from anystory.engine.limits import MOST_SEED, MOST_STEPS

app = typer.Typer(help="Measure a model.", no_args_is_help=True, add_completion=False)


@app.callback()
def _verbs() -> None:
    """Measure a model."""


@app.command()
def storyworld(
    model: Annotated[str, typer.Option(help="An embedded model (mini), or a folder.")] = "mini",
    split: Annotated[str, typer.Option(help="heldout (identities that training never sees) or train.")] = "heldout",
    level: Annotated[str, typer.Option(help="StoryWorld level: level1, level2, level3 or a level file.")] = "level1",
    n: Annotated[int, typer.Option("--n", "-n", min=4, help="Pictures per row; with --groups, of each group.")] = 256,
    groups: Annotated[
        str | None,
        typer.Option(
            help="Measure these groups of harder cases in place of the table: all, or some of one to five,"
            " same-kind, same-colours, one-wear, far, long, place, place-apart (docs/evaluation.md)."
        ),
    ] = None,
    rows: Annotated[str | None, typer.Option(help="Only these rows, separated by commas; by default all.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, max=MOST_STEPS, help="Sampling steps; by default the model's.")
    ] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; by default the model's.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="A sampler of diffusers; by default the model's.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed of the noise.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Pictures drawn at a time.")] = 16,
    judge: Annotated[
        Path | None, typer.Option(help="An attribute classifier's folder; by default the one that ships.")
    ] = None,
    threads: Threads = None,
    out: Annotated[
        Path | None, typer.Option(help="Keep pictures, scores and a page here; finished rows are not drawn again.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the whole table to this file.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure whether the given characters appear as the prompt asks. Prints one table, with and without each part."""
    from anystory.evaluation.storyworld.variants import parse_rows

    chosen = parse_rows(rows)
    if out is not None:
        check_out_folder(out)
    check_out_file(json, "--json", overwrite=overwrite)
    quiet_libraries(threads or 0)
    from anystory.evaluation.storyworld.extended import evaluate_groups
    from anystory.evaluation.storyworld.groups import parse_groups
    from anystory.evaluation.storyworld.report import evaluate

    measure = evaluate if groups is None else partial(evaluate_groups, parse_groups(groups))
    measure(
        model=model,
        variants=chosen,
        level=level,
        split=split,
        number=n,
        steps=steps,
        guidance=guidance,
        scheduler=scheduler,
        seed=seed,
        batch=batch,
        classifier_folder=judge,
        out=out,
        json_path=json,
        overwrite=overwrite,
    )


@app.command()
def segment(
    model: Annotated[str, typer.Option(help="An embedded model (mini), or a folder.")] = "mini",
    split: Annotated[str, typer.Option(help="heldout (identities that training never sees) or train.")] = "heldout",
    level: Annotated[str, typer.Option(help="StoryWorld level: level1, level2, level3 or a level file.")] = "level1",
    n: Annotated[int, typer.Option("--n", "-n", min=3, help="Scenes with two characters.")] = 128,
    levels: Levels = None,
    draws: Draws = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed of the noise, and of who is absent.")] = 0,
    threads: Threads = None,
    page: Annotated[Path | None, typer.Option(help="Write a page of the first scenes to this PNG.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the whole table to this file.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure how well subjects are found in pictures: overlap, right identity, absent subjects."""
    chosen = parse_levels(levels)
    for path, option in ((page, "--page"), (json, "--json")):
        check_out_file(path, option, overwrite=overwrite)
    quiet_libraries(threads or 0)
    from anystory.evaluation.segment.report import evaluate_segment

    evaluate_segment(
        model=model,
        level=level,
        split=split,
        number=n,
        levels=chosen,
        draws=draws,
        seed=seed,
        threads=threads,
        page=page,
        json_path=json,
        overwrite=overwrite,
    )


app.command()(eval_benchmarks.dreambench)
app.command()(eval_benchmarks.dreambench_multi)
app.command()(eval_benchmarks.ms_bench)
app.command()(eval_benchmarks.multibanana)
app.command()(eval_benchmarks.vistorybench)
app.command()(eval_benchmarks.compare)
