"""What a benchmark asks for: prompts with subjects, as files. Nothing heavy is imported."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from anystory.input_files import refuse_special

__all__ = ["PICTURES", "BenchmarkCase", "BenchmarkSubject", "check_cases", "pictures_in"]

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
"""Endings of picture files, in small letters."""
_LONGEST = 120


@dataclass(frozen=True, kw_only=True)
class BenchmarkSubject:
    """A subject of a case."""

    name: str
    """The same in all cases that show it; scores are given for each name."""
    image: Path
    """The picture that the model gets."""
    compared: tuple[Path, ...]
    """The pictures that drawn ones are compared with."""
    region: tuple[float, float, float, float] | None = None
    """The benchmark's layout: a box (x0, y0, x1, y1) in fractions of width and height; None where it has none."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkCase:
    """One prompt with its subjects."""

    key: str
    """Its own, in this benchmark."""
    prompt: str
    """What is drawn, and what CLIP-T reads."""
    subjects: tuple[BenchmarkSubject, ...]
    cluster: str
    """What is resampled for an interval: cases of one cluster (a subject, a pair, a story) are alike."""
    group: str
    """Its part of the benchmark: objects or live subjects, a combination, a task, a story."""
    official: str | None = None
    """Where the benchmark's own programs look for the picture, relative to their folder; None where they do not say."""

    @property
    def folder(self) -> str:
        """The key as the name of a folder, on any system."""
        safe = re.sub(r"[^\w.-]+", "_", self.key, flags=re.ASCII)[:_LONGEST]
        return safe if safe == self.key else f"{safe}-{hashlib.sha256(self.key.encode()).hexdigest()[:8]}"


def check_cases(cases: Iterable[BenchmarkCase], data: Path) -> list[BenchmarkCase]:
    """The cases, if there are any, each with a key of its own.

    Raises:
        ValueError: none, or two with one key.
    """
    found = list(cases)
    if not found:
        raise ValueError(f"{data} has no cases of this benchmark: docs/benchmarks.md says what lies where")
    seen: set[str] = set()
    for case in found:
        if case.key in seen:
            raise ValueError(f"{data} has two cases {case.key!r}: each needs its own")
        seen.add(case.key)
    return found


def pictures_in(folder: Path) -> tuple[Path, ...]:
    """The pictures in a folder, by name.

    Raises:
        ValueError: there is none.
    """
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES) if folder.is_dir() else []
    for path in found:
        refuse_special(path)
    if not found:
        raise ValueError(f"{folder} has no pictures ({', '.join(PICTURES)})")
    return tuple(found)
