"""`anystory train CONFIG`: one stage, or all five of the embedded model; `anystory train resume RUN` goes on."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from anystory.cli.drawing import quiet_libraries
from anystory.cli.train_cache import cache as write_cache
from anystory.cli.train_export import export
from anystory.cli.train_plan import plan

if TYPE_CHECKING:
    from anystory.training.prerender import Prerender
    from anystory.training.run_file import RunFile


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


PRECISIONS = ("auto", "bf16", "fp32")


def parse_minutes(text: str | None, stages: tuple[str, ...]) -> dict[str, float]:
    """`"30"` gives every stage 30 minutes; `"vae=4,base=10"` names them.

    Raises:
        ValueError: not a positive number, or an unknown stage.
    """
    if text is None:
        return {}
    pairs = [p.split("=", 1) for p in text.split(",")] if "=" in text else [[stage, text] for stage in stages]
    budget: dict[str, float] = {}
    for pair in pairs:
        if len(pair) != 2 or pair[0].strip() not in stages:
            raise ValueError(
                f"--minutes takes a number, or stage=number with a stage of {', '.join(stages)}; got {text!r}"
            )
        try:
            budget[pair[0].strip()] = float(pair[1])
        except ValueError:
            raise ValueError(f"--minutes: {pair[1]!r} is not a number") from None
        if not budget[pair[0].strip()] > 0:
            raise ValueError(f"--minutes: a budget must be positive, got {pair[1]}")
    return budget


def prerender_settings(
    count: int | None, *, workers: int | None, minutes: float | None, first: int | None
) -> Prerender | None:
    """What the --prerender options ask for.

    Raises:
        ValueError: one of the others without --prerender itself, or a time that is not positive.
    """
    given = {"workers": workers, "minutes": minutes, "first": first}
    if count is None:
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"--prerender-{name} says how --prerender draws: give --prerender N as well")
        return None
    from anystory.training.prerender import Prerender

    return Prerender(count, workers=workers, minutes=minutes, first=first or 0)


app.command("plan")(plan)
app.command("cache")(write_cache)
app.command("export")(export)


@app.command()
def run(
    config: Annotated[
        str,
        typer.Argument(
            help="vae, clip, base, encoder, router; mini: all five in order; or a recipe on a base (sdxl_encoder, "
            "sdxl_router, a YAML file): all its stages."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Run folder: checkpoints, logs, sample pictures and the model.")],
    recipe: Annotated[
        str | None, typer.Option(help="For a stage, or mini: a recipe's name or YAML file; mini-cpu if not given.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The base, in the recipe's place: a folder, hub id or single .safetensors file.")
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="Folders of shards, once for each; or a level of StoryWorld: level1.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="What `anystory train cache` wrote of these shards: latents and texts, read.")
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="The adapter to begin with, e.g. what `anystory adapter init` wrote.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the folder's checkpoints.")] = False,
    minutes: Annotated[
        str | None, typer.Option(help="Budget of training time over all runs: a number, or stage=number,… for mini.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Budget in steps instead.")] = None,
    start: Annotated[
        str | None, typer.Option(help="Begin with the weights of this model folder, or of an embedded model (mini).")
    ] = None,
    pack_to: Annotated[
        Path | None, typer.Option(help="Also write the model as it ships (fp16, shards ≤ 16 MB).")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that draw samples; 0 draws in line.")] = 1,
    threads: Annotated[int, typer.Option(min=0, help="Threads of the computation; 0 is torch's own choice.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of noise and dropout.")] = 0,
    precision: Annotated[
        str, typer.Option(help="auto, bf16 or fp32; auto is bf16 where the processor multiplies in it.")
    ] = "auto",
    compile: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Compile the heavy blocks. The default: on a GPU only."),
    ] = None,
    channels_last: Annotated[
        bool | None,
        typer.Option("--channels-last/--no-channels-last", help="Memory layout of convolutions. Default: on a GPU."),
    ] = None,
    prerender: Annotated[
        int | None,
        typer.Option(min=1, help="Draw so many samples into memory first, not counted as --minutes; train on them."),
    ] = None,
    prerender_workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that draw them; one per core if not given.")
    ] = None,
    prerender_minutes: Annotated[
        float | None, typer.Option(help="Stop drawing after so long and train on what is there.")
    ] = None,
    prerender_first: Annotated[
        int | None, typer.Option(min=0, help="Stream position of the first: another one gives other samples.")
    ] = None,
) -> None:
    """Train CONFIG. Everything a run writes lies below --out; the finished parts gather in OUT/model."""
    from anystory.training.recipe import STAGES, load_recipe, recipe_names

    by_recipe = config not in (*STAGES, "mini")
    if by_recipe and config not in recipe_names() and Path(config).suffix not in (".yaml", ".yml"):
        raise ValueError(
            f"no training configuration {config!r}: choose one of {', '.join(STAGES)}, mini for all five, or a recipe: "
            f"{', '.join(recipe_names())}, or a YAML file"
        )
    if by_recipe and recipe is not None:
        raise ValueError(f"{config} is a recipe itself: leave out --recipe, or name a stage before it")
    if precision not in PRECISIONS:
        raise ValueError(f"--precision is one of {', '.join(PRECISIONS)}, got {precision!r}")
    loaded = load_recipe(config if by_recipe else recipe or "mini-cpu")
    kept = None if cache is None else str(cache)
    loaded = loaded.with_places(base=base, data=tuple(data or ()), adapter=adapter, cache=kept)
    stages: Any = loaded.stage_names if by_recipe else STAGES if config == "mini" else (config,)
    budget = parse_minutes(minutes, stages)
    ahead = prerender_settings(prerender, workers=prerender_workers, minutes=prerender_minutes, first=prerender_first)

    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, but {out} is a file")
    quiet_libraries()
    from anystory.training.devices import can_compile

    if compile and not can_compile():
        raise ValueError("--compile needs torch 2.6 or newer")
    from anystory.pipelines.assets import resolve_model
    from anystory.training.options import RunOptions
    from anystory.training.places import with_absolute_places
    from anystory.training.run_file import RunFile, plain_options

    options = RunOptions(
        out=out,
        model=out / "model",
        steps=steps,
        workers=workers,
        seed=seed,
        precision=cast(Any, precision),
        compile=compile,
        channels_last=channels_last,
        prerender=ahead,
    )
    asked = RunFile(
        stages=stages,
        recipe=with_absolute_places(loaded),  # resumed from wherever
        options=plain_options(options),
        minutes=cast(Any, budget),
        threads=threads,
        start=None if start is None else str(Path(resolve_model(start)).resolve()),
        pack_to=None if pack_to is None else pack_to.resolve(),
    )
    _go(asked, out, resume=resume)


@app.command("resume")
def resume_run(folder: Annotated[Path, typer.Argument(help="The run folder that --out named.", metavar="RUN")]) -> None:
    """Go on with a run that was stopped or killed, as it was started, to its end."""
    from anystory.training.run_file import read_run_file

    quiet_libraries()
    _go(read_run_file(folder), folder, resume=True)


def _go(asked: RunFile, out: Path, *, resume: bool) -> None:
    """Train; exits with 0 after SIGTERM, 130 after Ctrl-C, 1 when the run cannot go on."""
    from anystory.training.failures import RunFailed
    from anystory.training.launch import launch
    from anystory.training.stopping import Terminated

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
