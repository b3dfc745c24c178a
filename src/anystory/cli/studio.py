"""`anystory studio`: a page in your browser for characters, scenes and stories."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anystory.cli.flags.cast import LibraryFolder
from anystory.cli.flags.model import ModelFlags
from anystory.cli.flags.outputs import check_out_folder
from anystory.cli.flags.spread import spread
from anystory.cli.terminal.announce import announce

__all__ = ["studio"]


@spread
def studio(
    model: ModelFlags,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of the page; by default the first free one from 7860.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for pictures and stories.")] = Path("studio"),
    library: LibraryFolder = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in your browser.")] = True,
) -> None:
    """Open the studio: a page in your browser for your characters, scenes and stories.

    Only this machine can reach it, and it loads nothing from a network. End it with Ctrl-C; your work is kept.
    """
    check_out_folder(out)
    options = model.options()
    from anystory.studio.serve import serve
    from anystory.studio.settings import StudioSettings

    announce("starting the studio")
    settings = StudioSettings(out=out.absolute(), library=library, options=options)
    serve(settings, port, browser=browser, on_ready=lambda url: print(f"The studio is open at {url}", flush=True))
