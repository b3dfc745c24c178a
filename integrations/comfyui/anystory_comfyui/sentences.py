"""Errors of the engine as ComfyUI shows them: one sentence."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

__all__ = ["in_a_sentence", "sentence"]


def in_a_sentence(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a node's function say in one sentence what was wrong with its input; bugs pass as they are."""

    @wraps(function)
    def plainly(*given: Any, **named: Any) -> Any:
        try:
            return function(*given, **named)
        except (OSError, ValueError, FloatingPointError) as error:
            raise _plain_kind(error)(sentence(error)) from None

    return plainly


def _plain_kind(error: Exception) -> type[Exception]:
    """A plain class for an error, whose own may take other arguments than a sentence."""
    kinds = (FloatingPointError, ValueError, OSError)
    return next(kind for kind in kinds if isinstance(error, kind))


def sentence(error: Exception) -> str:
    """An error's text on one line; of a file that cannot be used, its name first."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())
