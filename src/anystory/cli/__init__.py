"""The command line. Every verb lives in a file of its own, imported only when the verb is run."""

from __future__ import annotations

import errno
import io
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from anystory.version import __version__

__all__ = ["app", "main"]


class Verb(NamedTuple):
    """Where a verb lives, and its line in `anystory --help` (so that help imports none of them)."""

    module: str
    attribute: str
    help: str


VERBS = {
    "generate": Verb("anystory.cli.generate", "generate", "Draw pictures of your subjects from a prompt."),
    "replay": Verb("anystory.cli.replay", "replay", "Draw a recorded picture again and compare."),
    "segment": Verb("anystory.cli.segment", "segment", "Find your subjects in an existing picture."),
    "cutout": Verb("anystory.cli.cutout", "cutout", "Cut subjects out of pictures and look at the result."),
    "cast": Verb("anystory.cli.cast", "app", "Keep your characters, to draw them by name."),
    "demo": Verb("anystory.cli.demo", "demo", "Draw the demo: one, two and look-alike subjects."),
    "story": Verb("anystory.cli.story", "app", "Draw a story, from a cast and a script to a book."),
    "studio": Verb("anystory.cli.studio", "studio", "Open the studio in your browser: cast, scenes, stories."),
    "serve": Verb("anystory.cli.serve", "serve", "Draw pictures over HTTP, in the shape of OpenAI's Images API."),
    "world": Verb("anystory.cli.world", "app", "Draw StoryWorld scenes, characters and sheets."),
    "data": Verb("anystory.cli.data", "app", "Build, check, show and pack training samples."),
    "train": Verb("anystory.cli.train", "app", "Train the models."),
    "adapter": Verb("anystory.cli.adapter", "app", "Make adapters, and note which references they were trained on."),
    "models": Verb("anystory.cli.models", "app", "List, describe and verify models."),
    "eval": Verb("anystory.cli.evaluate", "app", "Measure a model."),
    "figures": Verb("anystory.cli.figures", "figures", "Draw the paper's figures with the numbers behind them."),
    "bench": Verb("anystory.cli.bench", "app", "Count or time what subjects cost, and how fast training is."),
    "judge": Verb("anystory.cli.judge", "app", "Train and check the attribute classifier of StoryWorld pictures."),
}


class LazyVerbs(TyperGroup):
    """A group whose commands are stubs until one is run, and that turns user errors into one line."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_verb(name) if name in VERBS else command, rest

    def invoke(self, ctx: Any) -> Any:
        _print_any_name()
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except Exception as error:
            told = _told(error)
            if told is None or ctx.params.get("debug"):
                raise
            message, code = told
            print(f"anystory: {' '.join(message.split())}", file=sys.stderr)
            raise typer.Exit(code) from None


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


def _told(error: Exception) -> tuple[str, int] | None:
    """The message of an error and the exit code: 2 for bad input, 1 for a failure; None for a bug."""
    said = _with_option(error) or str(error) or type(error).__name__
    if _is_out_of_memory(error):
        return f"not enough memory ({said}): take fewer or smaller pictures at a time, or a smaller model", 1
    if isinstance(error, OSError):
        if error.strerror and error.filename is not None:
            said = f"{error.filename}: {error.strerror}"
        return (f"{said}: {_NO_ROOM[error.errno]}", 1) if error.errno in _NO_ROOM else (said, 2)
    if isinstance(error, FloatingPointError):  # nothing was wrong with what was asked for, but no picture came out
        return said, 1
    return (said, 2) if isinstance(error, ValueError) else None


def _with_option(error: Exception) -> str:
    """What is wrong with an option, under the name that it has here; "" for other errors."""
    option, problem = getattr(error, "option", None), getattr(error, "problem", None)
    if not isinstance(error, ValueError) or not isinstance(option, str):
        return ""
    return f"{_OPTIONS.get(option, '--' + option.replace('_', '-'))} {problem}"


_OPTIONS = {"prompt": "PROMPT", "negative_prompt": "--negative", "width": "--size", "height": "--size"}
"""{option of the engine: what the command line calls it}, where the name is not the same."""

_NO_ROOM = {
    errno.ENOSPC: "make room on the disk, and try again",
    errno.EDQUOT: "your share of the disk is full: make room, and try again",
    errno.EFBIG: "the size of files is limited (ulimit -f): raise the limit, or write to another disk",
    errno.EIO: "the disk cannot be read or written",
}


def _is_out_of_memory(error: Exception) -> bool:
    """Of numpy and Python a MemoryError, of torch a RuntimeError: on GPUs one of a class of its own."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _print_any_name() -> None:
    """Let file names be printed that are no UTF-8, as the bytes that they are."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")


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
        print(f"anystory {__version__}")
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
    warnings.showwarning = _shown_once()
    app()


def _shown_once() -> Callable[..., None]:
    """Prints what a user can act on, without the line of our code that said it; the rest is for developers.

    Each once: a picture is looked at before a model is loaded and read again when it is drawn with, and Python's own
    memory of what was shown is lost whenever a library changes the filters.
    """
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if category is UserWarning and str(message) not in shown:
            shown.add(str(message))
            print(f"warning: {message}", file=sys.stderr)

    return show
