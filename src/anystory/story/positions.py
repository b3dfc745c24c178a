"""YAML and JSON read with the place of every entry, so that each complaint has its line and column.

YAML is read by the types of its version 1.2: `no`, `on` and `2026-11-25` are texts, not a boolean or a date.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from anystory.input_files import read_text

__all__ = ["Located", "Mark", "Problem", "StoryProblems", "read_located"]

_MOST_NODES = 200_000
"""Entries of a file, those repeated by YAML's aliases included: more are a mistake or an attack."""
_DEEPEST = 40
_LONGEST_NUMBER = 100
"""Characters; what has more stays a text."""
IN_QUOTES = "a text that begins with { must be in quotes"
WITHIN_BRACES = "within { } a text with a comma or a question mark must be in quotes"
_SHOWN = 20
"""Problems that one message tells."""

Key = str | int
Where = tuple[Key, ...]


class Mark(NamedTuple):
    """A place in a file, both numbers from 1."""

    line: int
    column: int


class Problem(NamedTuple):
    """Something that is wrong, and where."""

    file: str
    mark: Mark
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.mark.line}:{self.mark.column}: {self.text}"


class StoryProblems(ValueError):
    """All that is wrong with a file, in the order of its lines.

    Args:
        problems: At least one.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.mark))
        shown = "; ".join(map(str, self.problems[:_SHOWN]))
        more = len(self.problems) - _SHOWN
        super().__init__(shown + (f"; and {more} more" if more > 0 else ""))


@dataclass(frozen=True, kw_only=True)
class Located:
    """The content of a file, and where its entries stand."""

    file: str
    value: Any
    values: dict[Where, Mark] = field(repr=False)
    """Path of an entry -> where its value begins."""
    keys: dict[Where, Mark] = field(repr=False)
    """The same for the keys of mappings."""

    def problem(self, where: Sequence[Key], text: str, *, at_key: bool = False) -> Problem:
        """A problem with the entry at a path, or with the nearest one above it that is in the file.

        Lists also answer to their entries' content: in `[mara, {fox: …}]` the path `"fox"` is the second entry.
        """
        path: Where = ()
        value = self.value
        for key in where:
            found = _step(value, key)
            if found is None:
                continue
            path, value = (*path, *found[0]), found[1]
        places = self.keys if at_key and path in self.keys else self.values
        return Problem(self.file, places.get(path, Mark(1, 1)), text)


def _step(value: Any, key: Key) -> tuple[Where, Any] | None:
    """The way from a value to the entry of a key, and that entry."""
    if isinstance(value, dict):
        return ((key,), value[key]) if key in value else None
    if not isinstance(value, list):
        return None
    if isinstance(key, int):
        return ((key,), value[key]) if key < len(value) else None
    for number, entry in enumerate(value):
        if isinstance(entry, dict) and key in entry:
            return (number, key), entry[key]
        if entry == key:
            return (number,), entry
    return None


def read_located(path: Path) -> Located:
    """Read a file: JSON by its suffix `.json`, else YAML.

    Raises:
        StoryProblems: no valid YAML or JSON; keys that stand twice.
        ValueError, OSError: see `read_text`.
    """
    text = unicodedata.normalize("NFC", read_text(path, "save it as UTF-8")).removeprefix("\ufeff")
    file = str(path)
    is_json = path.suffix.lower() == ".json"
    plain = _parsed_json(text, file) if is_json else None
    try:
        root = yaml.compose(text.replace("\t", " ") if is_json else text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise StoryProblems([_problem_of(error, text, file)]) from None
    except RecursionError:
        raise StoryProblems([Problem(file, Mark(1, 1), "is nested too deeply")]) from None
    if root is None:
        raise StoryProblems([Problem(file, Mark(1, 1), "is empty: `anystory story new` writes a story to begin with")])
    walk = _Walk(file)
    value = walk.value(root, ())
    if walk.problems:
        raise StoryProblems(walk.problems)
    return Located(file=file, value=plain if is_json else value, values=walk.values, keys=walk.keys)


def _parsed_json(text: str, file: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise StoryProblems([Problem(file, Mark(error.lineno, error.colno), f"is no JSON: {error.msg}")]) from None
    except (ValueError, RecursionError) as error:
        raise StoryProblems([Problem(file, Mark(1, 1), f"is no JSON: {error}")]) from None


def _problem_of(error: yaml.YAMLError, text: str, file: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    said = getattr(error, "problem", None) or " ".join(str(error).split())
    where = Mark(1, 1) if mark is None else Mark(mark.line + 1, mark.column + 1)
    line = text.splitlines()[where.line - 1] if where.line <= text.count("\n") + 1 and text else ""
    hint = ""
    if said.startswith("expected ',' or '}'"):
        hint = f": {WITHIN_BRACES}"
    elif re.search(r"(^|[-:])\s*\{", line):
        hint = f": {IN_QUOTES}"
    return Problem(file, where, f"is no YAML: {said}{hint}")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the types of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # PyYAML's own way


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^$"), [""])


class _Walk:
    """Makes values of nodes, and notes where they stand."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.values: dict[Where, Mark] = {}
        self.keys: dict[Where, Mark] = {}
        self.problems: list[Problem] = []
        self._nodes = 0

    def value(self, node: Node, path: Where) -> Any:
        """The value of a node at a path."""
        mark = _mark(node)
        self._nodes += 1
        if self._nodes > _MOST_NODES or len(path) > _DEEPEST:
            if not self.problems:
                self.problems.append(Problem(self.file, mark, "has too many or too deeply nested entries"))
            return None
        self.values[path] = mark
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.value(entry, (*path, number)) for number, entry in enumerate(node.value)]
        assert isinstance(node, ScalarNode)
        return self._scalar(node)

    def _mapping(self, node: MappingNode, path: Where) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self.problems.append(Problem(self.file, _mark(key_node), "a name must be a text"))
                continue
            key = key_node.value
            where = (*path, key)
            if key in found:
                first = self.keys[where]
                text = f"{key!r} is there twice, first in line {first.line}"
                self.problems.append(Problem(self.file, _mark(key_node), text))
                continue
            self.keys[where] = _mark(key_node)
            found[key] = self.value(value_node, where)
        return found

    def _scalar(self, node: ScalarNode) -> Any:
        kind = node.tag.rpartition(":")[2]
        text = node.value
        if kind == "bool":
            return text.lower() == "true"
        if kind == "null":
            return None
        if kind == "int" and len(text) < _LONGEST_NUMBER:
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if kind == "float":
            return float(text)
        if kind not in ("str", "int"):
            self.problems.append(Problem(self.file, _mark(node), f"has the type {node.tag!r}, which no story uses"))
        return text


def _mark(node: Node) -> Mark:
    return Mark(node.start_mark.line + 1, node.start_mark.column + 1)
