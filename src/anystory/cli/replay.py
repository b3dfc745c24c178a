"""`anystory replay`: a recorded picture once more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anystory.cli.flags.moved import MovedFlags, TrustPaths
from anystory.cli.flags.outputs import Metadata, OutFolder, Sheet, check_out_folder
from anystory.cli.flags.spread import spread
from anystory.cli.terminal.announce import announce
from anystory.cli.terminal.drawing_bar import drawing_bar

if TYPE_CHECKING:
    from anystory.engine.replay import Comparison, Replay

__all__ = ["replay"]


@spread
def replay(
    record: Annotated[Path, typer.Argument(help="A picture that holds its record, or the JSON beside it.")],
    moved: MovedFlags,
    trust_paths: TrustPaths = False,
    out: OutFolder = Path("replay"),
    sheet: Sheet = True,
    metadata: Metadata = True,
) -> None:
    """Draw a recorded picture again and compare.

    With the same versions on the same kind of machine it is the same picture, byte for byte. Otherwise the command
    says what differs, and its exit code is 1.
    """
    check_out_folder(out)
    announce(f"reading {record}")
    from anystory.cli.terminal.loading import load_model
    from anystory.engine.drawing import draw_into

    restored = restored_from(record, moved, trust_paths)
    model = load_model(restored.options, restored.job)
    with drawing_bar("replaying") as show:
        seeds = [restored.record.seed]
        [again] = draw_into(
            out, model, restored.job, seeds, on_event=show, sheet=sheet, metadata=metadata, replay_of=str(record)
        )
    print(again.files.picture)
    found = restored.compare(again)
    for line in verdict(found, record):
        print(line)
    if found.was_changed or not (found.same_bytes or found.share == 0):
        raise typer.Exit(1)


def restored_from(record: Path, moved: MovedFlags, trust_paths: bool) -> Replay:
    """What a record asks for, and what the command line says instead.

    Raises:
        ValueError: it cannot be drawn again; see `engine.replay.restore`.
    """
    from anystory.engine.replay import HiddenPlaces, PathsOutside, restore

    try:
        return restore(record, trust_paths=trust_paths, **moved.changes())
    except HiddenPlaces as error:
        options = " and ".join(f"--{option.replace('_', '-')}" for option in error.places)
        raise ValueError(f"{error}: give {options}, or replay the .json that was written beside it") from None
    except PathsOutside as error:
        models = "" if error.outside[0][0] == "file" else "; or say where they are now (--model, --adapter, …)"
        raise ValueError(f"{error}. If you know who wrote it, add --trust-paths{models}") from None


def verdict(found: Comparison, record: Path) -> Iterator[str]:
    """What a comparison says, in lines."""
    if found.was_changed:
        yield f"the picture that was recorded, byte for byte; but {record} is another: it was changed afterwards"
        return
    if found.same_bytes:
        yield "the same picture, byte for byte"
        return
    if found.share is None:
        said = f"not the recorded picture: {found.problem}"
    elif found.share == 0:
        said = "the same pixels in another file (the recorded one was written differently)"
    else:
        said = (
            f"not the recorded picture: {found.share:.1%} of the pixels differ, by {found.mean:.2f} grey levels on "
            f"average and {found.most} at most"
        )
    yield f"{said}. What differs:"
    reasons = found.reasons or ("nothing in the record: the processor, or a library that it does not list, perhaps",)
    for reason in reasons:
        yield f"  {reason}"
