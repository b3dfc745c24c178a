"""`anystory story render`, `reroll` and `choose`: a story's panels drawn into a book, and drawn again."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anystory.cli.flags.cast import LibraryFolder
from anystory.cli.flags.model import ModelFlags
from anystory.cli.flags.moved import MovedFlags, TrustPaths
from anystory.cli.flags.outputs import Sheet, check_out_folder
from anystory.cli.flags.picture import Steps
from anystory.cli.flags.spread import spread
from anystory.cli.terminal.announce import announce
from anystory.cli.terminal.drawing_bar import drawing_bar
from anystory.engine.limits import MOST_SEED, MOST_WORKERS

if TYPE_CHECKING:
    from anystory.engine.backends.base import Model
    from anystory.engine.options import ModelOptions

__all__ = ["choose", "parse_panels", "render", "reroll"]

StoryPath = Annotated[Path, typer.Argument(help="The story file, YAML or JSON.", metavar="STORY")]
Panels = Annotated[
    str | None, typer.Option(metavar="N,N-M", help="Draw only these panels, such as 1,3-5; by default all.")
]
BestOf = Annotated[
    int, typer.Option(min=1, max=64, help="Draw so many candidates of each panel; the book shows the best.")
]
Jobs = Annotated[
    int,
    typer.Option(min=1, max=MOST_WORKERS, help="Processes that draw, each with one thread and a model of its own."),
]
RayAddress = Annotated[
    str | None, typer.Option("--ray", help="Draw on the machines of a Ray cluster: auto, local, or host:port.")
]


@spread
def render(
    story: StoryPath,
    model: ModelFlags,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the book.", metavar="BOOK")] = Path("book"),
    panels: Panels = None,
    best_of: BestOf = 1,
    jobs: Jobs = 1,
    ray: RayAddress = None,
    steps: Steps = None,
    library: LibraryFolder = None,
    sheet: Sheet = True,
) -> None:
    """Draw the panels of STORY into a book.

    A panel that is drawn already is not drawn again, unless something has changed that its picture depends on: its
    prompt, its cast, the model, … Texts are not among these. If the command is killed, run it again.
    """
    check_out_folder(out)
    if ray is not None and jobs > 1:
        raise ValueError("--jobs is for this machine and --ray for a cluster: give one of them")
    announce(f"reading {story}")
    from anystory.cli.terminal.loading import load_model
    from anystory.story.library import with_library
    from anystory.story.reading import read_story
    from anystory.story.runner.drawing import PanelDrawn, RenderEvent
    from anystory.story.runner.render import render_story

    def load(wanted: ModelOptions) -> Model:
        announce(f"loading {wanted.model}")
        return load_model(wanted)

    options = model.options()
    file = with_library(read_story(story), library)
    with drawing_bar("rendering") as show:

        def tell(event: RenderEvent) -> None:
            if isinstance(event, PanelDrawn):
                print(f"panel {event.task.plan.number}: {event.candidate.picture} (seed {event.task.seed})", flush=True)
            else:
                show(event)

        done = render_story(
            file,
            out,
            options,
            panels=parse_panels(panels),
            best_of=best_of,
            jobs=jobs,
            ray=ray,
            steps=steps,
            sheet=sheet,
            load=load,
            on_warning=lambda problem: print(f"warning: {problem}", file=sys.stderr),
            on_event=tell,
        )
    print(f"{out}: {len(done.drawn)} pictures drawn, {done.kept} panels as they were")


BookPath = Annotated[Path, typer.Argument(help="Folder of the book.", metavar="BOOK")]
PanelNumber = Annotated[int, typer.Argument(min=1, help="Number of the panel.", metavar="PANEL")]


@spread
def reroll(
    book: BookPath,
    panel: PanelNumber,
    moved: MovedFlags,
    seed: Annotated[int | None, typer.Option(min=0, max=MOST_SEED, help="Seed; by default a random one.")] = None,
    character: Annotated[
        str | None,
        typer.Option(help="Draw only this character again, by its routing mask; everything else stays as it is."),
    ] = None,
    trust_paths: TrustPaths = False,
) -> None:
    """Draw PANEL again, and let the book show the new picture. The older ones stay: see `anystory story choose`."""
    announce(f"reading {book}")
    from anystory.cli.terminal.loading import load_model
    from anystory.story.book_folder import read_book
    from anystory.story.runner.reroll import reroll_panel

    with drawing_bar(f"panel {panel}") as show:
        drawn = reroll_panel(
            read_book(book),
            panel,
            seed=seed,
            character=character,
            changes=moved.changes(),
            trust_paths=trust_paths,
            load=load_model,
            on_step=show,
        )
    print(f"panel {panel}, candidate {drawn.number}: {drawn.picture} (seed {drawn.facts.seed})")


def choose(
    book: BookPath,
    panel: PanelNumber,
    candidate: Annotated[int, typer.Argument(min=1, help="Number of the candidate.", metavar="CANDIDATE")],
) -> None:
    """Let the book show another CANDIDATE of PANEL."""
    from anystory.story.book_folder import read_book
    from anystory.story.runner.reroll import choose_candidate

    chosen = choose_candidate(read_book(book), panel, candidate)
    print(f"panel {panel}, candidate {chosen.number}: {chosen.picture} (seed {chosen.facts.seed})")


def parse_panels(text: str | None) -> set[int] | None:
    """`1,3-5` as {1, 3, 4, 5}.

    Raises:
        ValueError: anything else.
    """
    if text is None:
        return None
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})\s*(?:-\s*(\d{1,6})\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise ValueError(f"--panels must be numbers and ranges such as 1,3-5, got {text!r}")
        found |= set(range(first, last + 1))
    return found
