"""Story files written: a starter with comments, and stories that come from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from anystory.files import atomic_write
from anystory.story.schema import FORMAT, Story, json_schema

__all__ = ["SCHEMA_FILE", "write_schema", "write_starter", "write_story"]

SCHEMA_FILE = "anystory-story.schema.json"
"""Beside the stories that name it."""

_SCHEMA_LINE = f"# yaml-language-server: $schema=./{SCHEMA_FILE}\n"


def write_starter(path: Path) -> None:
    """Write a story with comments to begin with, and the schema beside it.

    Raises:
        FileExistsError: the story is there already.
        OSError: it cannot be written.
    """
    text = files("anystory.story").joinpath("starter.yaml").read_text(encoding="utf-8")
    _write(path, text.replace("{name}", path.name))


def write_story(path: Path, story: Mapping[str, Any], comment: str = "") -> None:
    """Write a story as YAML, and the schema beside it.

    Args:
        path: The file.
        story: As in a file, in the order in which it is written; it is checked against the schema.
        comment: Lines for its reader.

    Raises:
        ValueError: it is no story.
        FileExistsError, OSError: as for `write_starter`.
    """
    whole = {"format": FORMAT, **story}
    Story.model_validate(whole)
    text = yaml.safe_dump(whole, allow_unicode=True, sort_keys=False, width=110)
    lines = "".join(f"# {line}\n" for line in comment.splitlines())
    _write(path, f"{_SCHEMA_LINE}{lines}{text}")


def _write(path: Path, text: str) -> None:
    with atomic_write(path, overwrite=False) as temporary:
        temporary.write_text(text, encoding="utf-8")
    schema = path.parent / SCHEMA_FILE
    if not schema.exists():
        write_schema(schema, overwrite=False)


def write_schema(path: Path, *, overwrite: bool) -> None:
    """Write the JSON Schema.

    Raises:
        FileExistsError: it is there, and `overwrite` is false.
        OSError: it cannot be written.
    """
    with atomic_write(path, overwrite=overwrite) as temporary:
        temporary.write_text(json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
