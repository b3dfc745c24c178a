"""Options of `anystory train run`, in groups. Nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anystory.engine.limits import MOST_SEED, MOST_THREADS, MOST_WORKERS

if TYPE_CHECKING:
    from anystory.training.data.prerender_settings import Prerender
    from anystory.training.recipe import Recipe

__all__ = ["BudgetOptions", "ComputeOptions", "PrerenderOptions", "RunFolder", "RunSources", "parse_minutes"]

RunFolder = Annotated[Path, typer.Argument(help="The run folder that --out named.", metavar="RUN")]

_PRECISIONS = ("auto", "bf16", "fp32")


@dataclass(frozen=True, kw_only=True)
class RunSources:
    """What is trained, and on what."""

    recipe: Annotated[
        str | None,
        typer.Option(help="For a stage, or mini: a recipe's name or YAML file; by default mini-128."),
    ] = None
    base: Annotated[
        str | None, typer.Option(help="Overrides the recipe's base: a folder, hub id or single .safetensors file.")
    ] = None
    data: Annotated[
        list[str] | None,
        typer.Option(help="A folder of shards, or a level of StoryWorld (level1). Repeatable."),
    ] = None
    cache: Annotated[
        Path | None,
        typer.Option(
            help="A cache that `anystory train cache` wrote of these shards: latents and texts are read from it."
        ),
    ] = None
    adapter: Annotated[
        str | None, typer.Option(help="The adapter to begin with, for example from `anystory adapter init`.")
    ] = None

    def recipe_and_stages(self, config: str) -> tuple[Recipe, Any]:
        """The recipe that CONFIG and these options mean, and the names of the stages to train.

        Raises:
            ValueError: no such stage or recipe, or options that do not go together.
        """
        from anystory.training.recipe import STAGES, load_recipe, recipe_names

        by_stage = config in (*STAGES, "mini")
        if not by_stage and config not in recipe_names() and Path(config).suffix not in (".yaml", ".yml"):
            raise ValueError(
                f"no training configuration {config!r}: choose one of {', '.join(STAGES)}, mini for all of them, or a "
                f"recipe: {', '.join(recipe_names())}, or a YAML file"
            )
        if not by_stage and self.recipe is not None:
            raise ValueError(f"{config} is a recipe itself: leave out --recipe, or name a stage before it")
        recipe = load_recipe(self.recipe or "mini-128" if by_stage else config)
        cache = None if self.cache is None else str(self.cache)
        recipe = recipe.with_sources(base=self.base, data=tuple(self.data or ()), adapter=self.adapter, cache=cache)
        return recipe, (config,) if config in STAGES else recipe.stage_names


@dataclass(frozen=True, kw_only=True)
class BudgetOptions:
    """How long each stage is trained."""

    minutes: Annotated[
        str | None, typer.Option(help="Budget of training time over all runs: a number, or stage=number,… for mini.")
    ] = None
    steps: Annotated[int | None, typer.Option(min=1, help="Budget in steps instead of minutes.")] = None


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """How it is computed."""

    workers: Annotated[
        int,
        typer.Option(
            min=0, max=MOST_WORKERS, help="Processes that draw samples; 0 draws them in the training process."
        ),
    ] = 1
    threads: Annotated[
        int, typer.Option(min=0, max=MOST_THREADS, help="Threads of the computation; 0 is torch's own choice.")
    ] = 0
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed of noise and dropout.")] = 0
    precision: Annotated[
        str, typer.Option(help="auto, bf16 or fp32; auto is bf16 if the processor multiplies in it.")
    ] = "auto"
    compile: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Compile the heavy blocks; by default only on a GPU."),
    ] = None
    channels_last: Annotated[
        bool | None,
        typer.Option(
            "--channels-last/--no-channels-last",
            help="Memory layout of convolutions; by default channels-last only on a GPU.",
        ),
    ] = None

    def check(self) -> None:
        """Raises ValueError for a precision that no run has."""
        if self.precision not in _PRECISIONS:
            raise ValueError(f"--precision is one of {', '.join(_PRECISIONS)}, got {self.precision!r}")


@dataclass(frozen=True, kw_only=True)
class PrerenderOptions:
    """Whether samples are drawn before training."""

    prerender: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Draw this many samples into memory first and train on them; the time does not count as --minutes.",
        ),
    ] = None
    prerender_workers: Annotated[
        int | None,
        typer.Option(min=0, max=MOST_WORKERS, help="Processes that draw these samples; by default one per core."),
    ] = None
    prerender_minutes: Annotated[
        float | None, typer.Option(help="Stop drawing after this many minutes and train on the samples drawn so far.")
    ] = None
    prerender_first: Annotated[
        int | None,
        typer.Option(
            min=0, help="Stream position of the first of these samples; another position gives other samples."
        ),
    ] = None

    def settings(self) -> Prerender | None:
        """What these options ask for.

        Raises:
            ValueError: one of the others without --prerender itself, or a time that is not positive.
        """
        if self.prerender is None:
            for name in ("workers", "minutes", "first"):
                if getattr(self, f"prerender_{name}") is not None:
                    raise ValueError(f"--prerender-{name} says how --prerender draws: give --prerender N as well")
            return None
        from anystory.training.data.prerender_settings import Prerender

        return Prerender(
            self.prerender,
            first=self.prerender_first or 0,
            workers=self.prerender_workers,
            minutes=self.prerender_minutes,
        )


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
