"""What is wrong with the keys of a checkpoint, as data and as one message that a person can read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["CheckpointKeyError", "KeyReport", "compare_keys", "shapes_of"]

Shape = tuple[int, ...]

_NAMED_ONE_BY_ONE = 3
_MOST_LINES = 60


@dataclass(frozen=True, kw_only=True)
class KeyReport:
    """Every key that is missing, unexpected or of another shape. False when nothing is wrong."""

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshaped: tuple[tuple[str, Shape, Shape], ...] = ()
    """(key, found, expected)."""
    errors: tuple[str, ...] = ()
    """What a library said besides."""

    @classmethod
    def of_loading_info(cls, info: Mapping[str, Sequence[Any]]) -> KeyReport:
        """Reads what diffusers returns with `output_loading_info=True`."""
        return cls(
            missing=tuple(sorted(info["missing_keys"])),
            unexpected=tuple(sorted(info["unexpected_keys"])),
            misshaped=tuple(
                sorted((key, tuple(found), tuple(expected)) for key, found, expected in info["mismatched_keys"])
            ),
            errors=tuple(info["error_msgs"]),
        )

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshaped or self.errors)

    def __str__(self) -> str:
        """Counts in the first line, then the keys; those that differ only in their numbers share a line."""
        counts = {
            "missing": len(self.missing),
            "unexpected": len(self.unexpected),
            "of another shape": len(self.misshaped),
        }
        lines = [*_grouped("missing", ((key, "") for key in self.missing))]
        lines += _grouped("unexpected", ((key, "") for key in self.unexpected))
        lines += _grouped(
            "other shape", ((key, f" is {found}, expected {expected}") for key, found, expected in self.misshaped)
        )
        if len(lines) > _MOST_LINES:
            lines = [*lines[:_MOST_LINES], f"  … and {len(lines) - _MOST_LINES} more lines"]
        head = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
        return "\n".join([*([head] if head else []), *lines, *self.errors])


class CheckpointKeyError(ValueError):
    """A checkpoint whose keys are not those that were expected.

    Args:
        sentence: what was read, and what it should have been.
        report: all keys; the message shows them grouped.
    """

    def __init__(self, sentence: str, report: KeyReport) -> None:
        super().__init__(f"{sentence}: {report}")
        self.report = report


def shapes_of(weights: Mapping[str, Any], prefix: str = "") -> dict[str, Shape]:
    """{key: shape} of a state dict, the keys after a prefix: what `compare_keys` takes."""
    return {prefix + key: tuple(value.shape) for key, value in weights.items()}


def compare_keys(found: Mapping[str, Shape], expected: Mapping[str, Shape]) -> KeyReport:
    """Compares {key: shape} of a file with what a model wants."""
    return KeyReport(
        missing=tuple(sorted(expected.keys() - found.keys())),
        unexpected=tuple(sorted(found.keys() - expected.keys())),
        misshaped=tuple(
            (key, tuple(found[key]), tuple(expected[key]))
            for key in sorted(found.keys() & expected.keys())
            if tuple(found[key]) != tuple(expected[key])
        ),
    )


def _grouped(kind: str, keys: Iterable[tuple[str, str]]) -> list[str]:
    """One line per key, but one for all that differ in their numbers only. keys: (name, what to add)."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for key, note in keys:
        groups.setdefault(re.sub(r"\d+", "*", key) + re.sub(r"\d+", "*", note), []).append((key, note))
    lines = []
    for members in groups.values():
        if len(members) <= _NAMED_ONE_BY_ONE:
            lines += [f"  {kind}: {key}{note}" for key, note in members]
        else:
            (first, note), (last, _) = members[0], members[-1]
            pattern = re.sub(r"\d+", "*", first)
            lines.append(f"  {kind}: {pattern} ({len(members)} keys, {first}{note}, …, {last})")
    return lines
