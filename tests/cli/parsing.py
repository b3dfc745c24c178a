"""The command line's own parser, without running what it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer.main

from anystory.cli import app


def parse_command(words: Sequence[str]) -> None:
    """Read the words after `anystory`.

    Raises:
        Exception: the parser's own, for an unknown verb or option, or a value out of range.
    """
    command: Any = typer.main.get_command(app)
    context = command.make_context("anystory", list(words))
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
