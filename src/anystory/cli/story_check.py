"""`anystory story check`: a story file before it is drawn, or a book's pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anystory.cli.flags.cast import LibraryFolder
from anystory.cli.flags.model import ModelFlags
from anystory.cli.flags.outputs import check_out_file
from anystory.cli.flags.spread import spread
from anystory.cli.terminal.announce import announce

__all__ = ["check"]


@spread
def check(
    target: Annotated[Path, typer.Argument(help="The story file, or the folder of a book.", metavar="STORY|BOOK")],
    model: ModelFlags,
    library: LibraryFolder = None,
    clip: Annotated[
        str | None,
        typer.Option(help="For a book: a CLIP model that compares the characters; by default the model's own encoder."),
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="For a book: the page to write; by default consistency.html in the book.")
    ] = None,
) -> None:
    """Check a story file, or the pictures of a book.

    A story file: every fault with its line and column; the exit code is 1 if it cannot be drawn. A book: for each
    character how alike it is over the panels, who is missing or doubled, and which words of the prompts had no effect.
    """
    announce(f"reading {target}")
    if target.is_dir():
        check_book(target, clip, page)
    else:
        check_file(target, model, library)


def check_file(story: Path, model: ModelFlags, library: Path | None) -> None:
    """Print what is wrong with a story file."""
    from anystory.story.check import check_story
    from anystory.story.library import with_library
    from anystory.story.model_facts import model_facts
    from anystory.story.reading import read_story

    file = with_library(read_story(story), library)
    findings = check_story(file, model_facts(model.options()))
    for kind, problems in (("error", findings.errors), ("warning", findings.warnings)):
        for problem in sorted(problems, key=lambda problem: problem.mark):
            print(f"{kind}: {problem}")
    count = len(findings.errors), len(findings.warnings)
    print(f"{story}: {len(file.story.panels)} panels, {count[0]} errors, {count[1]} warnings")
    if findings.errors:
        raise typer.Exit(1)


def check_book(folder: Path, clip: str | None, page: Path | None) -> None:
    """Print how consistent a book's characters are, and write the page."""
    page = page or folder / "consistency.html"
    check_out_file(page, "--page", overwrite=True)
    from anystory.cli.terminal.libraries import quiet_libraries
    from anystory.story.book_folder import read_book

    book = read_book(folder)
    quiet_libraries()
    from anystory.story.consistency.page import write_page
    from anystory.story.consistency.report import judge_of, report_of

    report = report_of(book, judge_of(book, clip))
    for character in report.characters:
        means = zip(character.panels, character.means, strict=True)
        likeness = ", ".join(f"{panel}: {mean:.2f}" for panel, mean in means if mean == mean)
        print(f"{character.name}: mean likeness by panel {likeness or 'unknown'}")
        for panel, why in character.broken.items():
            print(f"  panel {panel}: {why}")
    for panel, notes in report.without_effect.items():
        for note in notes:
            print(f"panel {panel}: {note}")
    write_page(book, report, page)
    print(f"wrote {page}")
