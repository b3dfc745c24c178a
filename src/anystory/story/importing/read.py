"""Whatever can be imported, by its suffix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anystory.story.importing.script import read_script
from anystory.story.importing.storyboard import read_storyboard

__all__ = ["import_story"]

_READERS = {
    ".json": read_storyboard,
    ".md": read_script,
    ".markdown": read_script,
    ".txt": read_script,
    ".fountain": read_script,
    ".spmd": read_script,
}


def import_story(path: Path) -> dict[str, Any]:
    """A storyboard or script as a story file's content.

    Raises:
        ValueError: a file of another kind, or one that cannot be read.
        OSError: it cannot be opened.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path}: expected a storyboard (.json) or a script ({', '.join(list(_READERS)[1:])})")
    return reader(path)
