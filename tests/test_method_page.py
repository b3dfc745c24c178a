"""docs/method.md: every file and name that it points to is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
PLACE = re.compile(r"`([\w/]+\.py):([\w.]+)`")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| what ")]


def names_of(tree: ast.AST) -> set[str]:
    """Functions, classes and assigned names of a module or class; what is in a class as `Class.name`."""
    found: set[str] = set()
    for node in getattr(tree, "body", []):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for name in names_of(node)}
        for target in node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]:
            if isinstance(target, ast.Name):
                found.add(target.id)
    return found


@pytest.mark.parametrize(("file", "name"), sorted(set(PLACE.findall(PAGE))))
def test_what_the_page_points_to_is_there(file: str, name: str) -> None:
    path = ROOT / "src" / "anystory" / file
    assert path.is_file(), file
    assert name in names_of(ast.parse(path.read_bytes())), f"{name} is not in {file}"


def test_every_row_says_where_and_in_a_line() -> None:
    assert len(ROWS) > 25
    for row in ROWS:
        what, place, reading = (cell.strip() for cell in row.strip("|").split(" | "))
        assert what
        assert len(PLACE.findall(place)) == 1, row
        assert len(reading.split()) > 3, row


def test_the_paper_s_order() -> None:
    sections = [float(number) for number in re.findall(r"^## .*?(\d\.\d)", PAGE, re.MULTILINE)]
    assert sections == sorted(sections)
    assert len(sections) >= 4


def test_a_name_that_is_not_there_is_noticed() -> None:
    names = names_of(ast.parse("def f(): pass\nclass A:\n    x: int = 1\n    def g(self): pass\nB = 2\n"))
    assert names == {"f", "A", "A.x", "A.g", "B"}
