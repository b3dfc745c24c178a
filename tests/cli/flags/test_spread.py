"""A command's dataclass arguments as options of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer.testing import CliRunner

from anystory.cli.flags.spread import spread


@dataclass(frozen=True, kw_only=True)
class Size:
    width: Annotated[int, typer.Option(min=1, help="In pixels.")]
    height: Annotated[int | None, typer.Option("--height", "-h", help="By default the width.")] = None


@dataclass(frozen=True, kw_only=True)
class Place:
    names: Annotated[list[str] | None, typer.Option("--name")] = None
    quick: bool = False


def run(*arguments: str):
    app = typer.Typer()
    seen: list[object] = []

    @app.command()
    @spread
    def draw(prompt: Annotated[str, typer.Argument(help="What.")], size: Size, place: Place, out: Path = Path("out")):
        """Draw it."""
        seen.extend((prompt, size, place, out))

    return CliRunner().invoke(app, list(arguments)), seen


def test_the_command_gets_its_groups():
    result, seen = run("fox", "--width", "3", "-h", "4", "--name", "a", "--name", "b", "--quick", "--out", "x")
    assert result.exit_code == 0, result.output
    assert seen == ["fox", Size(width=3, height=4), Place(names=["a", "b"], quick=True), Path("x")]
    result, seen = run("fox", "--width", "3")
    assert seen == ["fox", Size(width=3), Place(), Path("out")]


def test_options_keep_their_order_ranges_and_help():
    text = run("--help")[0].output
    assert "Draw it." in text
    places = [text.index(option) for option in ("--width", "--height", "--name", "--quick", "--out")]
    assert places == sorted(places)
    assert "In pixels." in text
    assert run("fox", "--width", "0")[0].exit_code == 2
    missing = run("fox")[0]
    assert missing.exit_code == 2
    assert "--width" in missing.output
