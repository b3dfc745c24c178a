"""A subject cut out of a picture, as a file to draw with and a sheet to look at. Nothing heavy is imported at first."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from anystory.files import flush_file, flush_folder, fresh_parents, move_together

if TYPE_CHECKING:
    from PIL import Image

    from anystory.subjects.cutout import Segmenter

__all__ = ["CutOut", "cut_out_into"]

_KINDS = ("cutout", "mask", "sheet")
_LONGEST = 180
"""Bytes of the picture's name that go into the names of the results; file systems take 255."""


@dataclass(frozen=True, kw_only=True)
class CutOut:
    """What was written, and how the subject was found."""

    method: str
    """"alpha", or the segmenter's name."""
    confidence: float
    """In [0, 1]."""
    uncertain: bool
    """The confidence is so low that the result is to be looked at."""
    cutout: Path
    """The subject on a transparent background."""
    mask: Path
    """White where the subject is."""
    sheet: Path
    """The cut-out on a checkerboard and as the model sees it."""


def cut_out_into(out: Path, image: Path, segmenter: Segmenter) -> CutOut:
    """Cut a picture's subject out and write NAME-cutout.png, NAME-mask.png and NAME-sheet.png: all of them or none.

    Args:
        out: Folder; made if missing. Nothing in it is overwritten: NAME gets a number if it is taken.
        image: The picture.
        segmenter: What finds the subject if the picture has no alpha.

    Raises:
        ValueError: no picture, or one without a subject.
        OSError: a file cannot be read or written.
    """
    import numpy as np
    from PIL import Image

    from anystory.engine.sheets.cutout_sheet import cutout_sheet
    from anystory.subjects.cutout import LOW_CONFIDENCE
    from anystory.subjects.pictures import describe, load_picture
    from anystory.subjects.segmenter import cut_out

    picture = load_picture(image)
    found = cut_out(picture, describe(image), segmenter)
    title = f"{image.name}: {found.method}, confidence {found.confidence:.2f}"
    visible = np.where(found.matte[..., None] > 0, picture.rgb, np.uint8(255))  # what is cut away is not kept
    pictures = {
        "cutout": Image.fromarray(np.dstack((visible, found.matte))),
        "mask": Image.fromarray(found.matte),
        "sheet": cutout_sheet(picture.rgb, found.matte, title),
    }
    return CutOut(
        method=found.method,
        confidence=found.confidence,
        uncertain=found.confidence < LOW_CONFIDENCE,
        **_write(pictures, out, image.stem),
    )


def _write(pictures: dict[str, Image.Image], out: Path, stem: str) -> dict[str, Path]:
    """Write all pictures, and give them their names together."""
    with fresh_parents(out / "picture"), TemporaryDirectory(prefix=".cutting-", dir=out) as folder:
        for kind, picture in pictures.items():
            picture.save(Path(folder, f"{kind}.png"))
            flush_file(Path(folder, f"{kind}.png"))
        paths = _free_paths(out, stem)
        move_together([(Path(folder, f"{kind}.png"), path) for kind, path in paths.items()])
        flush_folder(out)
    return paths


def _free_paths(out: Path, stem: str) -> dict[str, Path]:
    """Where the results go, with a number after the name if one of them is taken."""
    short = stem.encode(errors="ignore")[:_LONGEST].decode(errors="ignore")
    number, name = 1, short
    while any(os.path.lexists(out / f"{name}-{kind}.png") for kind in _KINDS):
        number += 1
        name = f"{short}-{number}"
    return {kind: out / f"{name}-{kind}.png" for kind in _KINDS}
