"""Subjects looked for in a picture that is given: what is asked for, the task that looks, and what it found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image
from pydantic import ValidationError

from anystory.cast import Character, Library
from anystory.engine.errors import OptionError
from anystory.engine.job import PhotoFiles, SubjectFiles
from anystory.engine.record.segmentation import RECORD, SegmentationRecord, load_segmentation
from anystory.engine.segmenting import check_router
from anystory.segment.tints import SLOT_COLOURS
from anystory.studio.packed import png_bytes, zipped_folder
from anystory.studio.session import SegmentDraft, SegmentReference, Session
from anystory.studio.told import FieldError, as_field, invalid
from anystory.studio.worker.events import SubjectsFound, WorkerEvent
from anystory.studio.worker.maps import tint
from anystory.studio.worker.tasks import FindSubjects
from anystory.subjects import Subject
from anystory.subjects.cutout import LOW_CONFIDENCE
from anystory.subjects.pictures import load_picture, over_white

__all__ = ["ACTIONS", "base_picture", "given_picture", "mask_file", "overlay", "prepared", "shown", "whole_folder"]

_LARGEST = 1280
"""Longer side of a picture on the page, in pixels."""
_STRENGTH = 0.55
"""How much of the picture a mask's colour covers."""
_COLOURS = tuple("#{:02x}{:02x}{:02x}".format(*colour) for colour in SLOT_COLOURS)
"""Of the subjects in their order, as in the overlay that is downloaded."""


def shown(session: Session) -> dict[str, Any]:
    """What is looked for, and what was found last."""
    return {
        "segment": session.state.segment.model_dump(),
        "colours": list(_COLOURS),
        "found": _found(session),
    }


def _found(session: Session) -> dict[str, Any] | None:
    """What was found last; None if there is nothing, or if its folder is gone."""
    try:
        folder = _folder(session, session.state.segmented or "")
        record = _record(folder)
    except (ValueError, OSError):
        return None
    subjects = [
        {
            "name": one.subject.name,
            "confidence": one.confidence,
            "present": one.present,
            "share": one.share,
            "colour": _COLOURS[number % len(_COLOURS)],
        }
        for number, one in enumerate(record.subjects)
    ]
    return {
        "url": f"/files/segment/{quote(folder.name)}",
        "width": record.width,
        "height": record.height,
        "subjects": subjects,
    }


def save(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """Keep what is looked for as it stands on the page."""
    session.state.segment = _draft(payload)
    session.save()
    return {}


def check(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """Whether an upload can be looked at, or be looked for, and how sure its cut-out is.

    Raises:
        ValueError: it cannot; the error's `field` is the payload's.
    """
    path, field = session.upload(payload["upload"]), payload["field"]
    with as_field(field):
        if field == "picture":
            load_picture(path, "the picture")
            return {"uncertain": False}
        _, cutout = Subject(path).whole()
    return {"uncertain": cutout.confidence < LOW_CONFIDENCE}


def prepared(session: Session, payload: dict[str, Any]) -> tuple[FindSubjects, Callable[[WorkerEvent], None]]:
    """The task that looks for the subjects, and what keeps its result.

    Raises:
        FieldError: something is missing, somebody is twice in the list, or the model has no router.
        ValueError: a file or a character that is not here any more; its `field` says which.
    """
    draft = _draft(payload)
    session.state.segment = draft
    session.save()
    if draft.picture is None:
        raise FieldError("picture", "no_picture")
    with as_field("picture"):
        picture = session.upload(draft.picture)
    subjects = _subjects(session, draft.references)
    options = session.options()
    try:
        check_router(options)
    except OptionError:
        raise FieldError("model", "no_router", model=options.model) from None
    task = FindSubjects(
        picture=picture, subjects=subjects, prompt=draft.prompt.strip(), options=options, out=session.segments
    )
    return task, lambda event: _keep(session, event)


def _keep(session: Session, event: WorkerEvent) -> None:
    if isinstance(event, SubjectsFound):
        session.state.segmented = event.folder.name
        session.save()


def _draft(payload: dict[str, Any]) -> SegmentDraft:
    try:
        return SegmentDraft.model_validate(payload.get("segment") or {})
    except ValidationError as error:
        raise invalid(error, "picture") from None


def _subjects(session: Session, references: list[SegmentReference]) -> tuple[SubjectFiles, ...]:
    """Who is looked for."""
    if not references:
        raise FieldError("references", "no_references")
    names = [one.name.strip() for one in references]
    if "" in names:
        raise FieldError("references", "no_name")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise FieldError("references", "same_name", name=twice[0])
    characters = {one.name: one for one in Library(session.settings.library).read().characters}
    with as_field("references"):
        return tuple(_subject(session, characters, one) for one in references)


def _subject(session: Session, characters: Mapping[str, Character], one: SegmentReference) -> SubjectFiles:
    name = one.name.strip()
    if one.upload is not None:
        return SubjectFiles(image=session.upload(one.upload), name=name)
    if name not in characters:
        raise FieldError("references", "unknown_character", name=name)
    first, *more = characters[name].cutouts(one.variant)
    return SubjectFiles(image=first, more=tuple(PhotoFiles(path) for path in more), name=name)


def given_picture(session: Session, key: str) -> bytes:
    """An upload as the page shows it; raises ValueError for none, or one that is no picture."""
    return _small(session.upload(key))


def overlay(session: Session, folder: str, chosen: list[int] | None) -> bytes:
    """The masks in the subjects' colours, to lie over the picture.

    Args:
        session: Whose.
        folder: Of the masks.
        chosen: The subjects to show, from 0; None for all.

    Raises:
        ValueError: there is no such folder.
    """
    place = _folder(session, folder)
    return tint(_masks(place), _COLOURS, chosen, strength=_STRENGTH)


@lru_cache(maxsize=4)
def _masks(folder: Path) -> np.ndarray:
    """(N + 1, h, w) float32 of 0 and 1, the background last, no larger than on the page. A folder never changes."""
    masks = []
    for one in _record(folder).subjects:
        with Image.open(folder / one.mask) as mask:
            mask.thumbnail((_LARGEST, _LARGEST), Image.Resampling.BOX)
            masks.append(np.asarray(mask, dtype=np.float32) / 255)
    return np.stack([*masks, 1 - sum(masks)])


def base_picture(session: Session, folder: str) -> bytes:
    """The picture that was looked at; raises ValueError as `overlay`."""
    place = _folder(session, folder)
    return _small(place / _record(place).picture.file)


def mask_file(session: Session, folder: str, number: int) -> tuple[str, bytes]:
    """The mask of a subject, from 1, white where it is: its name and content; raises ValueError for none."""
    place = _folder(session, folder)
    found = _record(place).subjects
    if not 1 <= number <= len(found):
        raise ValueError(f"there are {len(found)} masks, got {number}")
    path = place / found[number - 1].mask
    return path.name, path.read_bytes()


def whole_folder(session: Session, folder: str) -> tuple[str, bytes]:
    """Masks, layers, overlay and record as a zip: its name and content; raises ValueError as `overlay`."""
    place = _folder(session, folder)
    return f"{place.name}-masks.zip", zipped_folder(place)


def _folder(session: Session, name: str) -> Path:
    """The folder of the masks that were found last; no other can be named."""
    folder = session.segments / name
    if not name or name != session.state.segmented or not (folder / RECORD).is_file():
        raise ValueError("these masks are not here any more: reload the page")
    return folder


def _record(folder: Path) -> SegmentationRecord:
    return load_segmentation(folder / RECORD)


def _small(path: Path) -> bytes:
    picture = over_white(load_picture(path))
    picture.thumbnail((_LARGEST, _LARGEST), Image.Resampling.LANCZOS)
    return png_bytes(picture)


ACTIONS: dict[str, Callable[[Session, dict[str, Any]], dict[str, Any]]] = {
    "segment": lambda session, payload: shown(session),
    "segment.save": save,
    "segment.check": check,
}
"""What the page may ask for."""
