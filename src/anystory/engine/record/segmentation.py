"""The record of subjects found in a picture, as classes and as a file. Nothing heavy is imported."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Interval

from anystory.engine.record.reading import checked_record, formatted_record
from anystory.engine.record.schema import STRICT, FileRecord, Share, Side, SubjectRecord
from anystory.input_files import parse_object, read_text

__all__ = ["RECORD", "FoundRecord", "SegmentationRecord", "load_segmentation", "segmentation_text"]

FORMAT = "anystory-segmentation/1"
RECORD = "segmentation.json"
"""Its name, in the folder of the masks."""


@dataclass(frozen=True, kw_only=True)
class FoundRecord:
    """A subject that was looked for."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    subject: SubjectRecord
    confidence: Share
    """How sure it is that the subject is in the picture."""
    present: bool
    """Whether that is enough; if not, the mask is empty."""
    share: Share
    """Of the picture's pixels."""
    mask: str
    """White where the subject is; beside the record."""
    layer: str
    """The subject's pixels on a transparent background."""


@dataclass(frozen=True, kw_only=True)
class SegmentationRecord:
    """Everything that is needed to find the same masks again."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    picture: FileRecord
    width: Side
    height: Side
    subjects: tuple[FoundRecord, ...]
    background: str
    """What is nobody's, as a layer."""
    overlay: str | None
    prompt: str
    seed: Annotated[int, Interval(ge=0, lt=2**64)]
    fusion: dict[str, Any]
    """Noise levels, draws, and how layers are weighed; see `segment.fusion.Fusion`."""
    options: dict[str, Any]
    """Which model, and how it was run."""
    weights: dict[str, str]
    """SHA-256 of each file that went into it."""
    environment: dict[str, str]


def segmentation_text(record: SegmentationRecord) -> str:
    """A record as JSON."""
    return formatted_record(record, FORMAT)


def load_segmentation(path: str | os.PathLike[str]) -> SegmentationRecord:
    """Read a record, and check every entry's type and range.

    Raises:
        ValueError: not JSON, not a record, one of another format, or with an entry that cannot be; a pipe or a device.
        FileNotFoundError: no such file.
    """
    remedy = f"give the {RECORD} that anystory has written"
    return checked_record(parse_object(read_text(path, remedy), path, remedy), SegmentationRecord, FORMAT, path)
