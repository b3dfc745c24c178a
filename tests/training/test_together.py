"""What the tests of several processes say when one fails or hangs."""

from __future__ import annotations

import os
import sys

import pytest

from . import together
from .together import free_port, run_together


def side_by_side(*scripts: str) -> list[str]:
    return run_together([[sys.executable, "-c", script] for script in scripts], [dict(os.environ)] * len(scripts))


def test_what_each_printed_comes_back() -> None:
    assert side_by_side("print('one')", "print('two')") == ["one\n", "two\n"]


def test_a_failure_is_shown_and_nobody_waits_for_its_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "GRACE", 0.2)
    with pytest.raises(AssertionError, match=r"(?s)\[.hung., 1\].*threading.*ZeroDivisionError"):
        side_by_side("import threading; threading.Event().wait()", "1 / 0")


def test_a_process_that_hangs_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "SECONDS", 3)
    with pytest.raises(AssertionError, match=r'(?s)hung.*File "<string>", line 3 in stuck'):
        side_by_side("import time\ndef stuck():\n    time.sleep(60)\nstuck()")


def test_ports_are_none_that_the_system_hands_out() -> None:
    assert all(int(free_port()) < together.FIRST_EPHEMERAL for _ in range(20))
