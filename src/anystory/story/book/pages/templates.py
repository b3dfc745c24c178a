"""Page templates: how many panels a page has, and where. Each is a JSON file in `templates/`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Template", "template", "template_names"]

FOLDER = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Template:
    """Rows of panels."""

    name: str
    title: str
    rows: tuple[tuple[float, ...], ...]
    """For each row the widths of its panels, relative to one another; the first is read first."""
    fit_height: bool
    """Whether the page is as high as its panels; it may then have fewer panels than the rows hold."""

    @property
    def count(self) -> int:
        """How many panels it holds."""
        return sum(len(row) for row in self.rows)


@cache
def template_names() -> tuple[str, ...]:
    """Names of all templates, fewest panels first."""
    return tuple(sorted((path.stem for path in FOLDER.glob("*.json")), key=lambda name: (template(name).count, name)))


@cache
def template(name: str) -> Template:
    """A template by name.

    Raises:
        ValueError: there is none of this name.
    """
    path = FOLDER / f"{name}.json"
    if not name.isidentifier() or not path.is_file():
        raise ValueError(f"there is no page template {name!r}: choose from {', '.join(template_names())}")
    data = json.loads(path.read_text(encoding="utf-8"))
    rows = tuple(tuple(float(width) for width in row) for row in data["rows"])
    return Template(name, data["title"], rows, data.get("fit_height", False))
