"""A record as it goes into the picture itself, which people hand on: no folder of the machine is in it."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from anystory.engine.record.schema import PictureRecord
from anystory.engine.record.segmentation import SegmentationRecord

__all__ = ["HIDDEN", "hidden_places", "shared_record"]

HIDDEN = "…/"
"""What stands for the folders of a path that was left out."""

_PLACES = ("model", "adapter", "config", "image_encoder")

_TEXTS = ("prompt", "negative_prompt", "name")
"""Entries that a person writes: a prompt may begin with a slash."""

_NAMES = ("original", "replay_of")
"""Paths that nothing is read from: of them the last name is enough."""

_R = TypeVar("_R")
_Record = TypeVar("_Record", PictureRecord, SegmentationRecord)


def shared_record(record: _Record) -> _Record:
    """A record without the folders of this machine: of each path that is not below the record only the name stays.

    The copies of the references keep their places beside the record; embedded models and hub ids keep their names.
    """
    return _shared(record)


def hidden_places(record: PictureRecord) -> dict[str, str]:
    """What `shared_record` left out of a record: {option of `replay` that says it: the name that stayed}.

    Of several LoRAs or segmenters it is the first.
    """
    found = [(name, getattr(record, name)) for name in _PLACES]
    found += [("lora", lora.file) for lora in record.loras]
    found += [("segmenter", subject.segmenter) for subject in record.subjects]
    hidden: dict[str, str] = {}
    for name, place in found:
        if place and place.startswith(HIDDEN):
            hidden.setdefault(name, place.removeprefix(HIDDEN))
    return hidden


def _shared(part: _R) -> _R:
    """A record, and all records inside it, with names in place of paths."""
    entries: dict[str, Any] = {field.name: getattr(part, field.name) for field in fields(part)}  # type: ignore[arg-type]
    return replace(part, **{name: _shared_entry(name, entry) for name, entry in entries.items()})  # type: ignore[type-var]


def _shared_entry(name: str, entry: Any) -> Any:
    if is_dataclass(entry):
        return _shared(entry)
    if isinstance(entry, (tuple, list)):
        return type(entry)(_shared_entry(name, one) for one in entry)
    if isinstance(entry, dict):
        return {key: _shared_entry(key, value) for key, value in entry.items()}
    if not isinstance(entry, str) or name in _TEXTS:
        return entry
    if name in _NAMES:
        return _last(entry)
    return HIDDEN + _last(entry) if Path(entry).is_absolute() else entry


def _last(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]
