"""Subjects found in a picture by their references, as files. Nothing heavy is imported at first."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from anystory.engine.backends.registry import backend_of
from anystory.engine.cancelling import CancelToken
from anystory.engine.errors import OptionError
from anystory.engine.record.provenance import environment
from anystory.engine.record.references import keep_file
from anystory.engine.record.segmentation import RECORD, FoundRecord, SegmentationRecord, segmentation_text
from anystory.engine.saving import REFERENCES, keep_references, segmenter_weights
from anystory.engine.steps import StepTeller
from anystory.files import flush_file, flush_folder, fresh_parents, without_surrogates

if TYPE_CHECKING:
    from anystory.engine.backends.base import Model
    from anystory.engine.events import StepDone
    from anystory.engine.job import SubjectFiles
    from anystory.engine.options import ModelOptions
    from anystory.engine.record.schema import SubjectRecord
    from anystory.pipelines.inputs import EncodedSubject
    from anystory.segment.fusion import Fusion
    from anystory.segment.segmentation import Segmentation
    from anystory.subjects import Subject

__all__ = ["Segmented", "check_router", "find_subjects", "segment_into"]

_OVERLAY = "overlay.png"

_LONGEST = 120
"""Bytes of the picture's name that the folder's has; file systems take 255."""
_LONGEST_NAME = 40
"""Letters of a subject's name in the names of its files."""


@dataclass(frozen=True, kw_only=True)
class Segmented:
    """What was written."""

    segmentation: Segmentation
    record: SegmentationRecord
    folder: Path


def check_router(options: ModelOptions) -> None:
    """Raise OptionError for a model that cannot find subjects, before it is loaded."""
    backend = backend_of(options.model)
    if not backend.has_router:
        raise OptionError(
            "model",
            f"{options.model} is {backend.title}, which has no router that could find subjects in a picture: take mini,"
            " SDXL or FLUX.1",
        )


def find_subjects(
    model: Model,
    image: Any,
    subjects: Sequence[Subject | EncodedSubject],
    *,
    prompt: str = "",
    seed: int = 0,
    levels: Sequence[float] | None = None,
    draws: int | None = None,
    on_step: Callable[[StepDone], None] = lambda step: None,
    cancel: CancelToken | None = None,
) -> tuple[Segmentation, Fusion]:
    """Find subjects in a picture.

    Args:
        model: What looks.
        image: The picture: a path, a PIL image or an array.
        subjects: Who is looked for, at least one; read or encoded.
        prompt, levels, draws: See `pipelines.segmenting`.
        seed: Of the noise.
        on_step: Called after each look of the network at the picture: `step` of `steps` are done. What it raises ends
            the call, as cancelling does.
        cancel: Ends the call before a subject is encoded, or between two looks.

    Returns:
        Masks and confidences, and how they were made of the routing maps.

    Raises:
        Cancelled: `cancel` was set.
        ValueError: an argument that the pipeline refuses, or a picture that cannot be read.
        FloatingPointError: maps that are not made of numbers.
    """
    from anystory.subjects import Subject

    token = cancel or CancelToken()
    encoded: list[EncodedSubject] = []
    for subject in subjects:
        token.check()
        encoded.append(model.encode(subject) if isinstance(subject, Subject) else subject)
    token.check()
    steps = StepTeller(1, token, on_step)
    return model.segment(
        image, encoded, prompt=prompt, seed=seed, levels=levels, draws=draws, on_step=partial(steps.tell, 1)
    )


def segment_into(
    out: Path,
    model: Model,
    image: Path,
    subjects: Sequence[SubjectFiles],
    *,
    read: Sequence[Subject] | None = None,
    prompt: str = "",
    seed: int = 0,
    levels: Sequence[float] | None = None,
    draws: int | None = None,
    overlay: bool = True,
    on_step: Callable[[StepDone], None] = lambda step: None,
    cancel: CancelToken | None = None,
) -> Segmented:
    """Find subjects in a picture, and write a folder with their masks and layers, an overlay and a record.

    Args:
        out: Where the folder is made, under the picture's name, with a number if that is taken. It appears whole.
        model, prompt, seed, levels, draws, on_step: See `find_subjects`.
        image: The picture.
        subjects: Who is looked for, at least one.
        read: The same, if they have been read already.
        overlay: Whether to write the picture with the subjects tinted.
        cancel: Ends the call as in `find_subjects`, or before it writes.

    Raises:
        Cancelled: `cancel` was set, and nothing is written.
        ValueError, FloatingPointError: see `find_subjects`.
        OSError: a file cannot be read or written.
    """
    token = cancel or CancelToken()
    read = _read(subjects, token) if read is None else read
    settings: dict[str, Any] = {"prompt": prompt, "seed": seed, "levels": levels, "draws": draws}
    found, fusion = find_subjects(model, image, read, **settings, on_step=on_step, cancel=token)
    token.check()
    cutouts = [tuple(cast(Any, photo.image).method for photo in subject.photos) for subject in read]
    with fresh_parents(out / "folder"), TemporaryDirectory(prefix=".segmenting-", dir=out) as temporary:
        fresh = Path(temporary, "whole")
        fresh.mkdir()
        names = _write_pictures(fresh, found, overlay)
        kept = keep_references(subjects, cutouts, fresh)
        record = SegmentationRecord(
            picture=keep_file(image, fresh / REFERENCES, fresh),
            width=found.image.width,
            height=found.image.height,
            subjects=tuple(_found(found, i, subject, names) for i, subject in enumerate(kept)),
            background=names[-1][1],
            overlay=_OVERLAY if overlay else None,
            prompt=prompt,
            seed=seed,
            fusion=fusion.to_dict(),
            options=model.options.recorded,
            weights={**model.weights, **segmenter_weights(subjects, cutouts)},
            environment=environment(model.options.device),
        )
        _finish(fresh, record)
        return Segmented(segmentation=found, record=record, folder=_place(fresh, out, image.stem))


def _read(subjects: Sequence[SubjectFiles], token: CancelToken) -> list[Subject]:
    """The subjects, read and cut out, unless the search is cancelled meanwhile."""
    read = []
    for given in subjects:
        token.check()
        read.append(given.subject().read())
    return read


def _write_pictures(folder: Path, found: Segmentation, overlay: bool) -> list[tuple[str, str]]:
    """Write them. Returns the names of each subject's mask and layer; the background, last, has a layer only."""
    names = []
    for number, name in enumerate(found.names, start=1):
        plain = re.sub(r"[^\w-]+", "_", name)[:_LONGEST_NAME]
        stem = f"{number}-{plain}"
        names.append((f"{stem}-mask.png", f"{stem}.png"))
    names.append(("", "background.png"))
    for (mask, _), picture in zip(names, found.mask_images(), strict=False):
        picture.save(folder / mask)
    for (_, layer), picture in zip(names, found.layers(), strict=True):
        picture.save(folder / layer)
    if overlay:
        found.overlay().save(folder / _OVERLAY)
    return names


def _found(found: Segmentation, i: int, subject: SubjectRecord, names: Sequence[tuple[str, str]]) -> FoundRecord:
    return FoundRecord(
        subject=subject,
        confidence=round(float(found.confidence[i]), 6),
        present=bool(found.present[i]),
        share=round(float(found.masks[i].mean()), 6),
        mask=names[i][0],
        layer=names[i][1],
    )


def _finish(folder: Path, record: SegmentationRecord) -> None:
    """Write the record, and bring all files of the folder to the disk."""
    (folder / RECORD).write_text(segmentation_text(record) + "\n", encoding="utf-8")
    for path in folder.rglob("*"):
        if path.is_file():
            flush_file(path)


def _place(fresh: Path, out: Path, stem: str) -> Path:
    """Give a finished folder a name that is free."""
    short = without_surrogates(stem).encode()[:_LONGEST].decode(errors="ignore")
    for number in count(1):
        folder = out / (short if number == 1 else f"{short}-{number}")
        if os.path.lexists(folder):
            continue
        with suppress(FileExistsError, NotADirectoryError):  # another program has taken the name meanwhile
            fresh.rename(folder)
            flush_folder(out)
            return folder
    raise AssertionError("numbers do not end")
