"""Requests that are forms, with files: their texts as a value, their files by name."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile

from anystory.input_files import why_invalid
from anystory.serving.api.common import digest_of
from anystory.serving.errors import ApiError

__all__ = ["MOST_IMAGES", "digest_of_form", "form_files", "read_form", "read_request"]

Given = TypeVar("Given", bound=BaseModel)

MOST_IMAGES = 16
"""Pictures of one form, masks not counted."""


def digest_of_form(what: str, body: BaseModel, files: Sequence[tuple[str, UploadFile]]) -> str:
    """A hash of a form's texts and files."""
    parts: list[bytes | str | None] = [what, body.model_dump_json()]
    for name, value in files:
        value.file.seek(0)
        parts += [name, value.file.read()]
        value.file.seek(0)
    return digest_of(*parts)


def read_request(given: Any, kind: type[Given]) -> Given:
    """A request's body as a value.

    Raises:
        ApiError: it is not as expected.
    """
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        param = ".".join(map(str, error.errors()[0]["loc"])) or None
        raise ApiError(400, why_invalid(error), param=param) from None


def read_form(form: FormData, kind: type[Given], as_json: Collection[str]) -> Given:
    """The texts of a form as a value.

    Args:
        form: What was sent; its files are left out.
        kind: Of the value.
        as_json: Fields that hold JSON.

    Raises:
        ApiError: it is not as expected.
    """
    given: dict[str, Any] = {}
    for name, value in form.multi_items():
        if isinstance(value, str):
            try:
                given[name] = json.loads(value) if name in as_json else value
            except ValueError:
                raise ApiError(400, f"{name} must be JSON, got {value[:60]!r}", param=name) from None
            except RecursionError:
                raise ApiError(400, f"{name} is nested too deeply", param=name) from None
    return read_request(given, kind)


def form_files(form: FormData, names: Sequence[str]) -> list[tuple[str, UploadFile]]:
    """The files of a form.

    Args:
        form: What was sent.
        names: Files that are taken.

    Raises:
        ApiError: a file under another name.
    """
    sent = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
    if others := {name for name, _ in sent} - set(names):
        told = f"{', '.join(names[:-1])} and {names[-1]}"
        raise ApiError(400, f"there is no file {min(others)!r} here: send {told}", param=min(others))
    return sent
