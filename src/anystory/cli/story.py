"""`anystory story`: a cast and a script to a picture book."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from anystory.cli.flags.outputs import Overwrite, check_out_file
from anystory.cli.story_check import check
from anystory.cli.story_export import export
from anystory.cli.story_render import choose, render, reroll
from anystory.cli.terminal.announce import announce
from anystory.engine.errors import check_text

app = typer.Typer(help="Draw a story, from a cast and a script to a book.", no_args_is_help=True, add_completion=False)


@app.command()
def schema(
    out: Annotated[Path | None, typer.Option(help="File to write; by default it is printed.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the JSON Schema of story files, with which an editor completes and checks them."""
    check_out_file(out, overwrite=overwrite)
    from anystory.story.schema import json_schema
    from anystory.story.starting import write_schema

    if out is None:
        print(json.dumps(json_schema(), indent=1, ensure_ascii=False))
        return
    write_schema(out, overwrite=overwrite)
    print(f"wrote {out}")


NewStory = Annotated[Path, typer.Argument(help="The story file to write, YAML.", metavar="STORY")]
OutStory = Annotated[Path, typer.Option("--out", "-o", help="The story file to write, YAML.", metavar="STORY")]


@app.command()
def new(story: NewStory = Path("story.yaml")) -> None:
    """Write a story with comments to begin with, and the JSON Schema beside it."""
    check_out_file(story, "STORY", overwrite=False)
    from anystory.story.starting import write_starter

    write_starter(story)
    print(f"wrote {story}; next: anystory story render {story} --out BOOK")


@app.command("import")
def import_(
    script: Annotated[
        Path,
        typer.Argument(
            help="A storyboard of AnyStory's authors (.json), or a script (.md, .txt, .fountain).", metavar="FILE"
        ),
    ],
    out: OutStory = Path("story.yaml"),
) -> None:
    """Make a story file of a storyboard or a script. Its characters need pictures then: `story check` says which."""
    check_out_file(out, overwrite=False)
    from anystory.story.importing.read import import_story
    from anystory.story.starting import write_story

    write_story(out, import_story(script), f"Imported from {script.name}.")
    print(f"wrote {out}; next: anystory story check {out}")


@app.command()
def draft(
    idea: Annotated[str, typer.Argument(help='What it is about: "a fox looks for her balloon".')],
    llm: Annotated[str, typer.Option(help="Folder or hub id of a chat model for transformers, run on this machine.")],
    out: OutStory = Path("story.yaml"),
    panels: Annotated[int, typer.Option(min=1, max=100, help="Number of panels.")] = 6,
) -> None:
    """Let a language model propose the panels of a story. This is optional: no other command needs such a model."""
    check_out_file(out, overwrite=False)
    check_text("idea", idea)
    announce(f"loading {llm}")
    from anystory.cli.terminal.libraries import quiet_libraries
    from anystory.story.drafting import draft_story, load_writer
    from anystory.story.starting import write_story

    quiet_libraries()
    write_story(out, draft_story(idea, panels, load_writer(llm)), f"Drafted by {llm}: read it, and give it a cast.")
    print(f"wrote {out}")


for _verb in (check, render, reroll, choose, export):
    app.command()(_verb)
