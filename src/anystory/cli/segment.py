"""`anystory segment`: where your subjects are in an existing picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anystory.cli.flags.model import ModelFlags
from anystory.cli.flags.noise import Draws, Levels, parse_levels
from anystory.cli.flags.outputs import OutFolder, check_out_folder
from anystory.cli.flags.spread import spread
from anystory.cli.flags.subject import SubjectFlags
from anystory.cli.terminal.announce import announce
from anystory.cli.terminal.drawing_bar import drawing_bar
from anystory.engine.job import Job
from anystory.engine.limits import MOST_SEED

__all__ = ["segment"]


@spread
def segment(
    image: Annotated[Path, typer.Argument(help="The picture to look at.")],
    subjects: SubjectFlags,
    model: ModelFlags,
    prompt: Annotated[str, typer.Option(help="What the picture shows, if you know.")] = "",
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed of the noise.")] = 0,
    levels: Levels = None,
    draws: Draws = None,
    overlay: Annotated[bool, typer.Option("--overlay/--no-overlay", help="Write the picture with tinted subjects.")] = (
        True
    ),
    out: OutFolder = Path("segments"),
) -> None:
    """Find your subjects in a picture.

    Writes a folder with a mask and a layer (the subject's pixels on a transparent background) for each subject, the
    background's layer, an overlay and a record. A subject that is not in the picture gets an empty mask.
    """
    check_out_folder(out)
    chosen, given = parse_levels(levels), subjects.subjects()
    if not given:
        raise ValueError("--subject is missing: name at least one subject to look for")
    announce(f"loading {model.model}")
    from anystory.subjects.pictures import load_picture

    load_picture(image, "the picture to segment")  # a bad one is reported before the libraries are imported
    read = [one.subject().read() for one in given]
    from anystory.cli.terminal.loading import load_model
    from anystory.engine.segmenting import check_router, segment_into

    options = model.options()
    check_router(options)
    loaded = load_model(options, Job(prompt=prompt, subjects=given))
    announce("looking")
    with drawing_bar("looking") as show:
        found = segment_into(
            out,
            loaded,
            image,
            given,
            read=read,
            prompt=prompt,
            seed=seed,
            levels=chosen,
            draws=draws,
            overlay=overlay,
            on_step=show,
        )
    for subject in found.record.subjects:
        where = f"{subject.share:.1%} of the picture" if subject.present else "not in the picture"
        print(f"{subject.subject.name}: {where}, confidence {subject.confidence:.2f}, {found.folder / subject.mask}")
    print(found.folder)
