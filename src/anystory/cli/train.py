"""`anystory train CONFIG`: one stage, or all of the embedded model; `anystory train resume RUN` resumes it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from anystory.cli.flags.outputs import check_out_folder
from anystory.cli.flags.spread import spread
from anystory.cli.flags.training import (
    BudgetOptions,
    ComputeOptions,
    PrerenderOptions,
    RunFolder,
    RunSources,
    parse_minutes,
)
from anystory.cli.terminal.libraries import quiet_libraries
from anystory.cli.train_average import average
from anystory.cli.train_cache import cache as write_cache
from anystory.cli.train_export import export
from anystory.cli.train_plan import plan

if TYPE_CHECKING:
    from anystory.training.launch.run_file import RunFile


class ConfigFirst(TyperGroup):
    """A group in which `train CONFIG …` is short for `train run CONFIG …`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=ConfigFirst,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(options_metavar="CONFIG [OPTIONS]", subcommand_metavar="or COMMAND [ARGS]")
def _describe() -> None:
    """Train the models. `anystory train CONFIG --out RUN` is short for `anystory train run CONFIG --out RUN`."""


app.command("plan")(plan)
app.command("cache")(write_cache)
app.command("export")(export)
app.command("average")(average)


@app.command()
@spread
def run(
    config: Annotated[
        str,
        typer.Argument(
            help="A stage (vae, decoder, clip, base, encoder, router); mini for all of them in order; or a recipe on a "
            "base (sdxl_encoder, sdxl_router, a YAML file) for all its stages."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Run folder: checkpoints, logs, sample pictures and the model.")],
    sources: RunSources,
    budget: BudgetOptions,
    compute: ComputeOptions,
    prerendering: PrerenderOptions,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the folder's checkpoints.")] = False,
    start: Annotated[
        str | None, typer.Option(help="Begin with the weights of this model folder, or of an embedded model (mini).")
    ] = None,
    pack_to: Annotated[
        Path | None, typer.Option(help="Also write the model as it ships (fp16, shards ≤ 16 MB).")
    ] = None,
) -> None:
    """Train CONFIG. A run writes everything below --out, and the finished parts to OUT/model."""
    recipe, stages = sources.recipe_and_stages(config)
    compute.check()
    minutes = parse_minutes(budget.minutes, stages)
    prerender = prerendering.settings()
    check_out_folder(out)
    quiet_libraries()
    from anystory.training.launch.options import RunOptions
    from anystory.training.launch.run_file import RunFile

    options = RunOptions(
        out=out,
        model=out / "model",
        steps=budget.steps,
        workers=compute.workers,
        seed=compute.seed,
        precision=cast(Any, compute.precision),
        compile=compute.compile,
        channels_last=compute.channels_last,
        prerender=prerender,
    )
    asked = RunFile.of(recipe, stages, options, minutes, threads=compute.threads, start=start, pack_to=pack_to)
    _launch(asked, out, resume=resume)


@app.command("resume")
def resume_run(folder: RunFolder) -> None:
    """Resume a run that was stopped or killed, with the settings that it was started with."""
    quiet_libraries()
    from anystory.training.launch.run_file import read_run_file

    _launch(read_run_file(folder), folder, resume=True)


def _launch(asked: RunFile, out: Path, *, resume: bool) -> None:
    """Train; exits with 0 after SIGTERM, 130 after Ctrl-C, 1 when the run has to end early."""
    from anystory.training.failures import RunFailed
    from anystory.training.launch.runner import launch
    from anystory.training.launch.stopping import Terminated

    check_out_folder(out)
    if asked.pack_to is not None:
        check_out_folder(asked.pack_to, "--pack-to")
    first = os.environ.get("RANK", "0") == "0"  # of the processes that a launcher has started; one speaks for all
    try:
        size = launch(asked, out, resume=resume, quiet=not first)
    except Terminated:
        raise typer.Exit from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except RunFailed as error:
        print(f"anystory: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    if first:
        print(f"model: {out / 'model'}")
    if size is not None:
        print(f"packed: {asked.pack_to} ({size / 2**20:.1f} MiB)")
