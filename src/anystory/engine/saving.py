"""What is kept of a drawn picture: the picture, its routing sheet, its record, and copies of what went into it.

Picture, sheet and record are three files of one number that appear together or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from anystory.engine.record.png_text import text_chunk
from anystory.engine.record.provenance import environment, weight_hashes
from anystory.engine.record.reading import record_text, save_record
from anystory.engine.record.references import keep_file
from anystory.engine.record.schema import CandidateRecord, FileRecord, PhotoRecord, PictureRecord, SubjectRecord
from anystory.engine.record.shared import shared_record
from anystory.files import flush_file, flush_folder, fresh_parents, move_together, sha256_file

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from anystory.engine.backends.base import DrawnPicture, Model
    from anystory.engine.job import Job, PhotoFiles, SubjectFiles

__all__ = [
    "REFERENCES",
    "Files",
    "Kept",
    "free_number",
    "keep",
    "keep_references",
    "owners_of",
    "save_drawn",
    "segmenter_weights",
]

REFERENCES = "references"
"""Folder of the copies, beside the pictures."""


class Files(NamedTuple):
    """What is written; the sheet may be None."""

    picture: Path
    sheet: Path | None
    record: Path


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A picture that was written."""

    image: Image.Image
    record: PictureRecord
    files: Files


def keep(
    picture: DrawnPicture,
    job: Job,
    model: Model,
    out: Path,
    *,
    sheet: bool = True,
    metadata: bool = True,
    replay_of: str | None = None,
    candidates: tuple[CandidateRecord, ...] = (),
) -> Kept:
    """Write a picture with everything that draws it again; arguments as for `drawing.draw_into`.

    `candidates` are the scores of all candidates that the picture was chosen from.
    """
    page = None
    if sheet and picture.routing:
        from anystory.engine.sheets.routing_sheet import routing_sheet

        page = routing_sheet(picture.image, picture.routing, references=picture.references, title=job.prompt)
    numbers = picture.numbers
    record = PictureRecord(
        prompt=job.prompt,
        negative_prompt=job.negative_prompt,
        seed=picture.seed,
        steps=numbers.steps,
        guidance=numbers.guidance,
        true_cfg=job.true_cfg,
        isolation=job.isolation,
        text_gate=job.text_gate,
        routing=job.routing,
        background_seed=job.background_seed,
        width=picture.image.width,
        height=picture.image.height,
        subjects=keep_references(job.subjects, picture.cutouts, out),
        image=_keep(job.image, out),
        mask=_keep(job.mask, out),
        strength=numbers.strength,
        together=picture.together,
        weights={**model.weights, **segmenter_weights(job.subjects, picture.cutouts)},
        environment=environment(model.options.device),
        replay_of=replay_of,
        candidates=candidates,
        **model.options.recorded,
    )
    files, record = save_drawn(out, picture.image, page, record, metadata=metadata)
    return Kept(image=picture.image, record=record, files=files)


def _keep(path: Path | None, out: Path) -> FileRecord | None:
    """Copy a file that goes into a picture beside the picture."""
    return None if path is None else keep_file(path, out / REFERENCES, out)


def keep_references(
    subjects: Sequence[SubjectFiles], cutouts: Sequence[Sequence[str]], out: Path
) -> tuple[SubjectRecord, ...]:
    """Copy the photos of subjects into a folder's `REFERENCES`, and record them.

    Args:
        subjects: As they were given.
        cutouts: How each photo of each was cut out.
        out: The folder.
    """

    def photo(files: PhotoFiles, cutout: str) -> PhotoRecord:
        image = keep_file(files.image, out / REFERENCES, out)
        return PhotoRecord(image=image, mask=_keep(files.mask, out), cutout=cutout)

    records = []
    for given, found in zip(subjects, cutouts, strict=True):
        first, *more = map(photo, given.photos, found)
        own = {"image": first.image, "mask": first.mask, "cutout": first.cutout, "more": tuple(more)}
        own["region_mask"] = _keep(given.region_mask, out)
        records.append(SubjectRecord(**own, name=given.name, **given.settings))
    return tuple(records)


def segmenter_weights(subjects: Sequence[SubjectFiles], cutouts: Sequence[Sequence[str]]) -> dict[str, str]:
    """SHA-256 of the files of the segmenters that cut subjects out: another file by the same name cuts differently."""
    from anystory.subjects.cutout import BUILT_IN_SEGMENTERS
    from anystory.subjects.onnx_models import find_onnx

    given = zip(subjects, cutouts, strict=True)
    used = [name for subject, found in given if (name := subject.settings.get("segmenter", "auto")) in found]
    models = [name for name in dict.fromkeys(used) if name not in BUILT_IN_SEGMENTERS]
    places = {f"segmenter-{number}": find_onnx(name) or Path(name) for number, name in enumerate(models, start=1)}
    return weight_hashes(places)


def save_drawn(
    out: Path, image: Image.Image, sheet: Image.Image | None, record: PictureRecord, *, metadata: bool = True
) -> tuple[Files, PictureRecord]:
    """Write `out/0001.png`, `out/0001-routing.png` and `out/0001.json`, or the next number that is free.

    All of them are whole on the disk before the first gets its name, and the record gets it first: no picture is ever
    without its record, whether the disk is full or the program is killed.

    Args:
        out: Folder; made if missing. Nothing in it is overwritten.
        image: The picture.
        sheet: Its routing maps, if any.
        record: What the picture is, but for the names of the files and the hash of its bytes.
        metadata: Whether the picture holds its record, too, without the folders of this machine.

    Returns:
        The files, and the record with their names and the hash.
    """
    with fresh_parents(out / "picture"), TemporaryDirectory(prefix=".drawing-", dir=out) as folder:
        drawn, page, text = (Path(folder, name) for name in ("picture.png", "sheet.png", "record.json"))
        image.save(drawn)
        if sheet is not None:
            sheet.save(page)
            flush_file(page)
        record = replace(record, picture_sha256=sha256_file(drawn))
        number = free_number(out)
        while True:
            files = _names(out, number, sheet is not None)
            record = replace(
                record, picture=files.picture.name, routing_sheet=None if files.sheet is None else files.sheet.name
            )
            save_record(record, text)
            image.save(drawn, pnginfo=text_chunk(record_text(shared_record(record))) if metadata else None)
            flush_file(drawn)
            moves = [(text, files.record), (drawn, files.picture)]
            if files.sheet is not None:
                moves.append((page, files.sheet))
            try:
                move_together(moves)
            except FileExistsError:  # another program has taken the number meanwhile
                text.unlink(missing_ok=True)
                number += 1
                continue
            flush_folder(out)
            return files, record


def _names(out: Path, number: int, with_sheet: bool) -> Files:
    stem = f"{number:04d}"
    return Files(out / f"{stem}.png", out / f"{stem}-routing.png" if with_sheet else None, out / f"{stem}.json")


def free_number(out: Path) -> int:
    """The number after the highest in a folder of outputs, from 1."""
    taken = [re.match(r"(\d{1,9})(?!\w)", path.name) for path in out.iterdir()] if out.is_dir() else []
    return max((int(match.group(1)) for match in taken if match), default=0) + 1


def owners_of(picture: DrawnPicture) -> np.ndarray | None:
    """Who owns each pixel, (H, W) uint8: 0 the background, i the i-th subject; None without subjects."""
    if picture.routing is None:
        return None
    import numpy as np

    masks = picture.routing.masks()
    return (masks * np.arange(1, len(masks) + 1, dtype=np.uint8)[:, None, None]).max(axis=0)
