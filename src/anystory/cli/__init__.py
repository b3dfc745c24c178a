"""The command line. Every verb lives in a file of its own, imported only when the verb is run."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

import anystory

__all__ = ["app", "main"]


class Verb(NamedTuple):
    """Where a verb lives, and its line in `anystory --help` (so that help imports none of them)."""

    module: str
    attribute: str
    help: str


VERBS = {
    "generate": Verb("anystory.cli.generate", "generate", "Draw pictures of your subjects from a prompt."),
    "replay": Verb("anystory.cli.replay", "replay", "Draw a recorded picture again and compare."),
    "demo": Verb("anystory.cli.demo", "demo", "Draw the demo: one, two and look-alike subjects."),
    "world": Verb("anystory.cli.world", "app", "Draw StoryWorld scenes, characters and sheets."),
    "data": Verb("anystory.cli.data", "app", "Check, look at, pack and draw training samples."),
    "train": Verb("anystory.cli.train", "app", "Train the models."),
    "adapter": Verb("anystory.cli.adapter", "app", "Start an adapter from public weights."),
    "models": Verb("anystory.cli.models", "app", "List, describe and verify models."),
    "eval": Verb("anystory.cli.evaluate", "app", "Measure a model."),
    "bench": Verb("anystory.cli.bench", "app", "Count or time what subjects cost."),
    "judge": Verb("anystory.cli.judge", "app", "Train and check the reader of StoryWorld pictures."),
}


class LazyVerbs(TyperGroup):
    """A group whose commands are stubs until one is run, and that turns user errors into one line."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_verb(name) if name in VERBS else command, rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except (ValueError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            print(f"anystory: {_message(error)}", file=sys.stderr)
            raise typer.Exit(2) from None


def load_verb(name: str) -> Any:
    """Import a verb's module and return its command."""
    verb = VERBS[name]
    found = getattr(import_module(verb.module), verb.attribute)
    if not isinstance(found, typer.Typer):
        found, function = typer.Typer(add_completion=False), found
        found.command(name)(function)
    command = typer.main.get_command(found)
    command.name = name
    return command


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


app = typer.Typer(
    name="anystory",
    cls=LazyVerbs,
    help="Put your own characters into pictures.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"anystory {anystory.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program; LazyVerbs.invoke reads them."""


for _name, _verb in VERBS.items():
    app.command(_name, help=_verb.help)(lambda: None)


def main() -> None:
    """Run the command line; the entry point of the `anystory` script."""
    warnings.showwarning = _show_warning
    app()


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """What a user can act on, without the line of our code that said it; the rest is for developers."""
    if category is UserWarning:
        print(f"warning: {message}", file=sys.stderr)
