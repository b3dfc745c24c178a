"""Errors as sentences for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError

__all__ = ["FieldError", "as_field", "invalid", "told"]

_LIMITS = {
    "greater_than_equal": ("at_least", "ge"),
    "less_than_equal": ("at_most", "le"),
    "string_too_long": ("too_long", "max_length"),
    "too_long": ("too_many", "max_length"),
}
"""pydantic's kind of an error: the key of its sentence, and the limit that it names."""


class FieldError(ValueError):
    """Something that was entered cannot be.

    Args:
        field: The field of the page.
        key: Of the sentence in the languages' `errors`.
        **values: What the sentence names.
    """

    def __init__(self, field: str, key: str, **values: object) -> None:
        super().__init__(key)
        self.field, self.key, self.values = field, key, values


def invalid(error: ValidationError, field: str) -> FieldError:
    """The first thing that is wrong with what the page sent.

    Args:
        error: Of the page's draft.
        field: Of what is wrong with the whole of it.
    """
    first = error.errors(include_url=False)[0]
    field = str(first["loc"][0]) if first["loc"] else field
    if first["type"] in _LIMITS:
        key, limit = _LIMITS[first["type"]]
        return FieldError(field, key, limit=first.get("ctx", {})[limit])
    if first["type"].startswith(("int_", "float_", "finite_number")):
        return FieldError(field, "no_number")
    return FieldError(field, "plain", text=first["msg"])


@contextmanager
def as_field(field: str) -> Iterator[None]:
    """What is wrong in the block belongs to a field of the page, unless the error says another."""
    try:
        yield
    except (ValueError, OSError) as error:
        if getattr(error, "field", None) is None and getattr(error, "option", None) is None:
            error.field = field  # pyright: ignore[reportAttributeAccessIssue]
        raise


def told(error: Exception) -> tuple[str, str | None]:
    """The sentence of an error and the field or option that it is about; "" for a bug, which nobody is to blame for."""
    field = getattr(error, "field", None) or getattr(error, "option", None)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"not enough memory ({error}): take fewer or smaller pictures, or a smaller model", field
    if isinstance(error, OSError):
        named = error.strerror and error.filename is not None
        return (f"{error.filename}: {error.strerror}" if named else str(error)), field
    if isinstance(error, (ValueError, FloatingPointError)):
        return " ".join(str(error).split()), field
    return "", None
