"""A render that is killed at any file operation and run again: nothing lost, nothing twice, no half file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from anystory.engine.record.reading import load_record
from anystory.story.book_folder import read_book

pytestmark = pytest.mark.slow

Books = tuple[Path, list[list[int]]]


@pytest.fixture(scope="module")
def books() -> Iterator[Books]:
    """The folder of all books; how each first render ended, what it had drawn, how the second ended."""
    memory = Path("/dev/shm")  # every file is flushed
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        command = [sys.executable, str(Path(__file__).with_name("killed_books.py")), name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        yield Path(name), json.loads(done.stdout.splitlines()[-1])


def files(book: Path) -> set[str]:
    """Everything in a book."""
    return {str(path.relative_to(book)) for path in book.rglob("*") if path.is_file()}


def test_every_operation_was_hit(books: Books) -> None:
    _, done = books
    assert len(done) > 60
    assert {code for code, _, _ in done[:-1]} == {-signal.SIGKILL}
    assert done[-1][0] == 12


def test_nothing_is_drawn_twice_and_nothing_is_lost(books: Books) -> None:
    _, done = books
    assert {before for _, before, _ in done} == {0, 1, 2}
    assert [after - 10 for _, _, after in done] == [2 - before for _, before, _ in done]


def test_a_killed_book_ends_as_an_unbroken_one(books: Books) -> None:
    folder, done = books
    unbroken = read_book(folder / "unbroken")
    wanted = files(unbroken.folder)
    for number in range(1, len(done) + 1):
        book = read_book(folder / str(number))
        assert files(book.folder) == wanted, number
        for panel, other in zip(book.panels, unbroken.panels, strict=True):
            assert panel.chosen is not None
            assert other.chosen is not None
            assert [candidate.number for candidate in panel.candidates] == [1]
            assert panel.chosen.facts == other.chosen.facts
            records = [load_record(one.chosen.record) for one in (panel, other) if one.chosen is not None]
            assert len({record.picture_sha256 for record in records}) == 1
