"""What a log shows of long work: a line at once, then one now and then, with the time that is left."""

from __future__ import annotations

import pytest

from anystory import progress
from anystory.progress import LINE_SECONDS, CountingBar


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stands = Clock()
    monkeypatch.setattr(progress, "time", stands)
    return stands


def test_a_log_gets_a_line_at_once_and_one_when_half_a_minute_is_over(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with CountingBar("eval", 40) as bar:
        assert capsys.readouterr().err == "[eval] 0 of 40\n"
        clock.now += LINE_SECONDS / 2
        bar.update(5)
        assert capsys.readouterr().err == ""
        clock.now += LINE_SECONDS
        bar.update(10, "full model")
        assert capsys.readouterr().err == "[eval] full model: 10 of 40, about 135 s left\n"
        assert bar.done == 10
        bar.update(20, "full model")
        assert capsys.readouterr().err == ""


def test_nothing_is_promised_before_anything_is_done(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with CountingBar("eval", 40) as bar:
        clock.now += 2 * LINE_SECONDS
        bar.update(0, "full model")
    assert capsys.readouterr().err == "[eval] 0 of 40\n[eval] full model: 0 of 40\n"


def test_a_terminal_gets_a_bar_and_no_lines(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with CountingBar("eval", 40) as bar:
        clock.now += 2 * LINE_SECONDS
        bar.update(10, "full model")
        (task,) = bar.bar.tasks
        assert (task.description, task.completed) == ("full model", 10)
    assert "[eval]" not in capsys.readouterr().err
