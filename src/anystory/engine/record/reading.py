"""Records read and written: a JSON file of their own, or a text inside the PNG. Nothing heavy is imported."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from anystory.engine.record.png_text import is_png, read_png_text
from anystory.engine.record.schema import PictureRecord
from anystory.files import atomic_write
from anystory.input_files import parse_object, read_text

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["checked_record", "formatted_record", "load_record", "record_text", "save_record"]

FORMAT = "anystory-record/1"

_SHOWN = 3
"""Wrong entries that one message names."""

_R = TypeVar("_R")


def save_record(record: PictureRecord, path: Path) -> None:
    """Write a record as JSON; never over an existing file.

    Raises:
        FileExistsError: `path` exists.
    """
    with atomic_write(path, overwrite=False) as temporary:
        temporary.write_text(record_text(record) + "\n", encoding="utf-8")


def record_text(record: PictureRecord) -> str:
    """A record as JSON."""
    return formatted_record(record, FORMAT)


def formatted_record(record: Any, form: str) -> str:
    """A record of any class as JSON: what `checked_record` reads, with `form` in the entry `format`."""
    return json.dumps({"format": form, **asdict(record)}, indent=2, ensure_ascii=False)


def load_record(path: str | os.PathLike[str]) -> PictureRecord:
    """Read a record, from its own file or from the PNG that holds it, and check every entry's type and range.

    Raises:
        ValueError: not JSON, not a record, one of another format, or with an entry that cannot be; a pipe or a device.
        FileNotFoundError: no such file.
    """
    remedy = "give a PNG that anystory has drawn, or the .json beside it"
    data = parse_object(read_png_text(path) if is_png(path) else read_text(path, remedy), path, remedy)
    return checked_record(data, PictureRecord, FORMAT, path)


def checked_record(data: dict[str, Any], kind: type[_R], form: str, path: str | os.PathLike[str]) -> _R:
    """The content of a record's file as the record's class.

    Args:
        data: The JSON object.
        kind: The class.
        form: The value of the entry `format`.
        path: Of the file, for messages.

    Raises:
        ValueError: another format, or an entry that cannot be.
    """
    from pydantic import ValidationError

    entries = dict(data)
    if entries.pop("format", None) != form:
        raise ValueError(f"{path} is not a record of this version: expected a JSON object with format {form!r}")
    try:
        # As JSON: there a list is a tuple's only form, and nothing else is taken for anything else.
        return _checker(kind).validate_json(json.dumps(entries))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        wrong = "; ".join(f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in found[:_SHOWN])
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ValueError(f"{path} is damaged ({wrong}{more}): give the record as it was written") from None


@cache  # ten to twenty milliseconds each time, and a page of pictures reads many records
def _checker(kind: type[_R]) -> TypeAdapter[_R]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
