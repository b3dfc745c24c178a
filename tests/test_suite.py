"""The suite itself: no test lies where pytest does not look."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def test_every_test_file_is_read(files_read: set[Path], request: pytest.FixtureRequest) -> None:
    """pytest passes over some folders by their names alone, without a word."""
    config = request.config
    asked = [(config.invocation_params.dir / argument.partition("::")[0]).resolve() for argument in config.args]
    if not any(TESTS.is_relative_to(place) for place in asked):
        pytest.skip("only a part of the suite was asked for")
    there = set(TESTS.rglob("test_*.py"))
    assert len(there) > 50
    assert not sorted(str(path.relative_to(TESTS)) for path in there - files_read)


def test_what_is_named_slow_is_there(named_slow: list[str]) -> None:
    """A test that has another name by now would be quick again unseen."""
    root = Path(__file__).parent.parent
    for entry in named_slow:
        file, _, test = entry.partition("::")
        assert (root / file).is_file(), entry
        assert not test or f"def {test.partition('[')[0]}(" in (root / file).read_text(encoding="utf-8"), entry
