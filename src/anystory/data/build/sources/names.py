"""Names of files that people and systems write in different ways."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

__all__ = ["NameIndex", "fold", "subject_name"]

_REPEATS = re.compile(r"\d{1,4}_(?=.)")


def fold(name: str) -> str:
    """The same string for names that differ only in case, in the coding of accents (macOS separates letter and accent),
    in the direction of slashes and in a leading "./"."""
    path = str(PurePosixPath(name.strip().replace("\\", "/")))
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


class NameIndex:
    """Finds names: exactly, else folded (see `fold`).

    Args:
        names: The names to search.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._exact = set(names)
        self._alike: dict[str, list[str]] = {}
        for name in sorted(self._exact):
            self._alike.setdefault(fold(name), []).append(name)

    def find(self, name: str) -> str | None:
        """The name itself, or the first with the same `fold`; None if there is none."""
        return name if name in self._exact else next(iter(self._alike.get(fold(name), ())), None)


def subject_name(folder: str) -> str:
    """The subject of a folder of photos: its name, without the repeats of kohya's `10_ann woman`."""
    return _REPEATS.sub("", folder, count=1) if _REPEATS.match(folder) else folder
