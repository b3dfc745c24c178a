"""A story file read and checked against the schema; what it says about its cast is checked by `check`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from anystory.story.positions import IN_QUOTES, WITHIN_BRACES, Key, Located, Problem, StoryProblems, read_located
from anystory.story.schema import FORMAT, Story

__all__ = ["StoryFile", "read_story"]


@dataclass(frozen=True, kw_only=True)
class StoryFile:
    """A story, and the file that it was read from."""

    path: Path
    story: Story
    located: Located

    @property
    def folder(self) -> Path:
        """What the story's paths are relative to."""
        return self.path.parent

    def problem(self, *where: Key, text: str, at_key: bool = False) -> Problem:
        """A problem with the entry at a path; see `Located.problem`."""
        return self.located.problem(where, text, at_key=at_key)


def read_story(path: Path) -> StoryFile:
    """Read a story file, YAML or JSON.

    Raises:
        StoryProblems: all that the schema does not allow, with line and column.
        ValueError, OSError: it cannot be read at all.
    """
    located = read_located(path)
    found = located.value
    if not isinstance(found, dict):
        raise StoryProblems([located.problem((), "a story is a mapping with `title` and `panels`")])
    given = found.get("format", FORMAT)
    if given != FORMAT:
        text = f"this version reads the format {FORMAT!r}, got {given!r}"
        raise StoryProblems([located.problem(("format",), text)])
    try:
        story = Story.model_validate(found)
    except ValidationError as error:
        raise StoryProblems(_problems(error, located)) from None
    return StoryFile(path=path, story=story, located=located)


def _problems(error: ValidationError, located: Located) -> Iterator[Problem]:
    for entry in error.errors(include_url=False):
        if entry["type"] == "too_short" and entry["input"]:
            continue  # pydantic counts the valid ones only; what is wrong with the others is told already
        where = [key for key in entry["loc"] if key != "[key]"]
        yield located.problem(where, _said(entry, where), at_key=_is_about_key(entry))


def _is_about_key(entry: Any) -> bool:
    return entry["type"] == "extra_forbidden" or "[key]" in entry["loc"]


def _said(entry: Any, where: list[Key]) -> str:
    """What pydantic found, in a sentence about the entry."""
    name = next((key for key in reversed(where) if isinstance(key, str)), "the story")
    if entry["type"] == "missing":
        return f"`{name}` is missing"
    if entry["type"] == "extra_forbidden":
        hint = f": {WITHIN_BRACES}" if entry["input"] is None else ""
        return f"there is no entry `{name}` here{hint}"
    if "[key]" in entry["loc"]:
        return f"{name!r} must begin with a letter and have letters, digits, - and _ only"
    if entry["type"] == "string_type" and isinstance(entry["input"], dict):
        return f"`{name}` must be a text: {IN_QUOTES}"
    said = entry["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"`{name}`: {said}, got {_short(entry['input'])}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
