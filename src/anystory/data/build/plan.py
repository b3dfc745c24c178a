"""A plan: a source and steps with their options, from a YAML file or flags.

source: {kind: subjects, longest: 2048}
steps:
  - segment
  - filter: {least_side: 512}
  - pair: {references: 4}
  - compare
  - caption: {template: "a photo of {caption}"}
write: {format: auto}
heldout: 0.02
credit: our own photos
licence: CC BY 4.0
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, field_validator

from anystory.data.build.export import WriteOptions
from anystory.data.build.sources.base import BuildOptions, ItemSource
from anystory.data.build.sources.scenes import MaskedScenes
from anystory.data.build.sources.subjects import SubjectFolders
from anystory.data.build.sources.videos import Videos
from anystory.data.build.steps.base import STEPS, Step, load_step, parse_options

__all__ = ["SOURCES", "Plan", "default_plan", "load_plan", "with_settings"]

SOURCES: dict[str, type[ItemSource[Any]]] = {source.name: source for source in (SubjectFolders, Videos, MaskedScenes)}

_STEPS = ("segment", "filter", "pair", "compare", "caption")
_DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {"scenes": {"pair": {"same_picture": True}}}

_FORMAT = 1
"""Raised when the same results of steps give other samples."""


class Plan(BuildOptions):
    """Everything that decides which samples are made of which files."""

    source: dict[str, Any] = Field(default_factory=lambda: {"kind": "subjects"})
    """`kind` (subjects, videos or scenes) and its options."""
    steps: tuple[tuple[str, dict[str, Any]], ...] = tuple((name, {}) for name in _STEPS)
    """(name, options), in order."""
    write: WriteOptions = WriteOptions()
    heldout: float = Field(default=0.0, ge=0, le=1)
    """Share of the items, chosen by their keys, whose samples are kept apart from training."""
    duplicate_bits: int = Field(default=3, ge=-1, le=16)
    """Of matching targets of different items (`ImageFingerprint.matches`) the first stays; -1 keeps all."""
    credit: str = ""
    """Where the pictures come from; every sample's `source`."""
    licence: str = ""

    @field_validator("steps", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise ValueError("steps are a list: `- segment`, `- filter: {least_side: 512}`")
        return [_step(entry) for entry in value]

    @property
    def kind(self) -> str:
        """The source's kind."""
        return str(self.source.get("kind", "subjects"))

    def make_source(self, folder: Path) -> ItemSource[Any]:
        """The source, reading from a folder.

        Raises:
            ValueError: no such kind, or options that do not fit.
        """
        if self.kind not in SOURCES:
            raise ValueError(f"there is no source {self.kind!r}: use {', '.join(SOURCES)}")
        source = SOURCES[self.kind]
        values = {name: value for name, value in self.source.items() if name != "kind"}
        return source(folder, parse_options(source.Options, values, f"source {self.kind}"))

    def make_steps(self) -> list[Step]:
        """The steps, with their models loaded.

        Raises:
            ValueError: no such step, options that do not fit, or a model that cannot be loaded.
        """
        return [_made(step, options) for step, options in self._checked_steps()]

    def digest(self) -> str:
        """SHA-256 of all that decides the samples of an item, without the places of its files.

        Raises:
            ValueError: as for `make_source` and for unknown steps.
        """
        source = self.make_source(Path())
        parts = {
            "format": _FORMAT,
            "source": [source.name, source.version, source.options.model_dump()],
            "steps": [[s.name, s.version, options.model_dump(mode="json")] for s, options in self._checked_steps()],
            "write": self.write.model_dump(include={"format", "quality"}),
            "rest": [self.heldout, self.credit, self.licence],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def describe(self) -> list[str]:
        """The steps in words, one a line."""
        lines = []
        for step, options in self._checked_steps():
            values = {k: "default" if v is None else v for k, v in options.model_dump().items()}
            lines.append(f"{step.name}: {', '.join(f'{name}={value}' for name, value in values.items())}")
        return lines

    def _checked_steps(self) -> list[tuple[type[Step], Any]]:
        found = [(load_step(name), values) for name, values in self.steps]
        return [(step, parse_options(step.Options, values, f"step {step.name}")) for step, values in found]


def _made(step: type[Step], options: BuildOptions) -> Step:
    try:
        return step(options)
    except ValueError:
        raise
    except Exception as error:  # a user's own step; else every item would report a dead worker
        raise ValueError(
            f"step {step.name} cannot be made with the options {options!r} ({type(error).__name__}: {error})"
        ) from error


def default_plan(kind: str) -> dict[str, Any]:
    """The plan of a kind of source, as an unchecked mapping."""
    extra = _DEFAULTS.get(kind, {})
    return {"source": {"kind": kind}, "steps": [{name: dict(extra.get(name, {}))} for name in _STEPS]}


def load_plan(path: Path) -> dict[str, Any]:
    """The content of a plan's file.

    Raises:
        ValueError: not YAML, or of another shape than a plan.
        FileNotFoundError: no such file.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: a plan is a mapping with `source` and `steps`, got {type(found).__name__}")
    for name, example in (("source", "{kind: subjects}"), ("write", "{format: png}")):
        if not isinstance(found.get(name, {}), dict):
            raise ValueError(f"{path}: `{name}` is a mapping, as `{example}`, got {found[name]!r}")
    if not isinstance(found.get("steps", []), list):
        raise ValueError(f"{path}: steps are a list: `- segment`, `- filter: {{least_side: 512}}`")
    return {**default_plan(str(found.get("source", {}).get("kind", "subjects"))), **found}


def with_settings(plan: Mapping[str, Any], settings: Iterable[str]) -> Plan:
    """A checked plan with settings such as `filter.least_side=512`, `source.seconds=3` or `heldout=0.1`.

    Raises:
        ValueError: a setting without a place or a value, or one that does not fit.
    """
    changed = copy.deepcopy(dict(plan))
    for setting in settings:
        name, sign, text = setting.partition("=")
        part, _, option = name.strip().partition(".")
        if not sign or not part:
            raise ValueError(f"--set {setting}: expected `step.option=value`, for example filter.least_side=512")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ValueError(f"--set {setting}: {text!r} is not a YAML value") from None
        if not option:
            changed[part] = value
        elif part in ("source", "write"):
            changed[part] = {**(changed.get(part) or {}), option: value}
        else:
            changed["steps"] = _changed_steps(changed.get("steps") or (), part, option, value, setting)
    return parse_options(Plan, changed, "the plan")


def _changed_steps(steps: Iterable[Any], name: str, option: str, value: Any, setting: str) -> list[Any]:
    found = [_step(entry) for entry in steps]
    if name not in [step for step, _ in found]:
        raise ValueError(f"--set {setting}: the plan has no step {name!r}, but {', '.join(step for step, _ in found)}")
    return [{step: {**values, option: value} if step == name else values} for step, values in found]


def _step(entry: Any) -> tuple[str, dict[str, Any]]:
    """A step as written in a plan, `segment` or `segment: {method: border}`, to its name and options."""
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, (list, tuple)) and len(entry) == 2 and isinstance(entry[0], str):
        entry = {entry[0]: entry[1]}
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((name, values),) = entry.items()
        if isinstance(values, Mapping) or values is None:
            return str(name), dict(values or {})
    raise ValueError(f"a step is its name, or `name: {{option: value}}`, got {entry!r}. Steps are {', '.join(STEPS)}")
