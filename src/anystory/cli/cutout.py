"""`anystory cutout`: cut subjects out of pictures, to look at before you draw with them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anystory.cli.flags.cast import LibraryFolder, cast_originals
from anystory.cli.flags.outputs import OutFolder, check_out_folder
from anystory.cli.terminal.libraries import quiet_libraries
from anystory.engine.cutting import cut_out_into

if TYPE_CHECKING:
    from anystory.subjects.cutout import Segmenter

__all__ = ["cutout"]


def cutout(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...",
            help="Pictures of one subject each; @NAME or @NAME@VARIANT for the photos of a character.",
        ),
    ],
    segmenter: Annotated[
        str,
        typer.Option(
            help="auto, border, grabcut or none; u2netp or another ONNX model (see `anystory models get`), or "
            "the path of its file; or a segmentation model's hub id or folder."
        ),
    ] = "auto",
    out: OutFolder = Path("cutouts"),
    library: LibraryFolder = None,
) -> None:
    """Cut subjects out of pictures, as `generate` and training do, and show how sure each cut-out is.

    Writes NAME-cutout.png (transparent background: give it to --subject), NAME-mask.png, and NAME-sheet.png, which
    shows the cut-out on a checkerboard and on white.
    """
    check_out_folder(out)
    from anystory.subjects.segmenter import find_segmenter, is_transformers

    if is_transformers(segmenter):
        quiet_libraries()
    found = find_segmenter(segmenter)
    done = [_tried(image, found, out, library) for image in images]
    if not all(done):
        raise typer.Exit(2)


def _tried(image: Path, segmenter: Segmenter, out: Path, library: Path | None) -> bool:
    """Cut one picture out, or a character's; a bad one must not keep the others from being looked at."""
    try:
        for photo in cast_originals(image, library):
            found = cut_out_into(out, photo, segmenter)
            doubt = " (uncertain: look at the sheet)" if found.uncertain else ""
            paths = f"{found.cutout}, {found.mask}, {found.sheet}"
            print(f"{photo}: {found.method}, confidence {found.confidence:.2f}{doubt}, {paths}", flush=True)
    except (ValueError, OSError) as error:
        print(f"anystory: {error}", file=sys.stderr)
        return False
    return True
