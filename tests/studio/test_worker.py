"""The drawing process: its line, what it tells, cancelling, errors, its death."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anystory.studio.worker.events import SamplingProgress, WorkerEvent
from anystory.studio.worker.worker import DrawingProcess, Ticket
from studio.light_tasks import Dies, Held, Raises, Steps, Touches, Unreadable


@pytest.fixture(scope="module")
def worker() -> Iterator[DrawingProcess]:
    found = DrawingProcess()
    yield found
    found.close()


def until(done: Callable[[], bool], what: str = "it happened") -> None:
    for _ in range(3000):
        if done():
            return
        time.sleep(0.02)
    raise AssertionError(f"waited in vain until {what}")


def ended(ticket: Ticket) -> Ticket:
    until(lambda: not ticket.open, "the task ended")
    return ticket


def test_a_task_tells_its_steps_in_order_and_ends(worker: DrawingProcess):
    heard: list[WorkerEvent] = []
    ticket = ended(worker.submit(Steps(3), heard.append))
    assert ticket.state == "done"
    assert [event.step for event in heard if isinstance(event, SamplingProgress)] == [1, 2, 3]
    assert ticket.progress is not None
    assert ticket.progress.steps == 3


def test_looks_at_a_picture_are_no_drawing_and_a_drawing_afterwards_is_one(worker: DrawingProcess, tmp_path: Path):
    let_go = tmp_path / "let go"
    looking = worker.submit(Held(Steps(3, looking=True), let_go))
    until(lambda: looking.progress is not None and looking.progress.step == 2)
    assert (looking.state, looking.open) == ("looking", True)
    let_go.touch()
    assert ended(looking).state == "done"
    let_go.unlink()
    drawing = worker.submit(Held(Steps(3), let_go))
    until(lambda: drawing.progress is not None and drawing.progress.step == 2)
    assert (drawing.state, drawing.open) == ("drawing", True)
    worker.cancel(drawing)
    assert ended(drawing).state == "cancelled"


def test_tasks_stand_in_one_line_and_the_process_is_kept(worker: DrawingProcess):
    first, second, third = (worker.submit(Steps(2, 0.2)) for _ in range(3))
    assert worker.ahead(third) >= 1
    assert [ended(one).state for one in (first, second, third)] == ["done"] * 3
    assert len({one.words for one in (first, second, third)}) == 1, "one process did all of them"


def test_what_waits_is_cancelled_at_once_and_never_runs(worker: DrawingProcess, tmp_path: Path):
    running = worker.submit(Steps(3, 0.1))
    waiting = worker.submit(Touches(tmp_path / "ran"))
    worker.cancel(waiting)
    assert waiting.state == "cancelled"
    ended(running)
    ended(worker.submit(Steps(1)))
    assert not (tmp_path / "ran").exists()


def test_what_runs_is_cancelled_between_steps_and_the_next_is_not(worker: DrawingProcess):
    running = worker.submit(Steps(1000, 0.02))
    until(lambda: running.progress is not None)
    worker.cancel(running)
    assert ended(running).state == "cancelled"
    assert ended(worker.submit(Steps(1))).state == "done"
    worker.cancel(running)  # long over: nothing happens
    assert ended(worker.submit(Steps(1))).state == "done"


def test_an_error_is_a_sentence_with_its_option_and_a_bug_says_what_it_is(worker: DrawingProcess):
    ticket = ended(worker.submit(Raises("option")))
    assert (ticket.state, ticket.message, ticket.option) == ("failed", "steps must be 1 to 1000, got 0", "steps")
    assert ended(worker.submit(Raises("memory"))).message.startswith("not enough memory (huge)")
    assert ended(worker.submit(Raises("bug"))).message == "ZeroDivisionError: oh"


def test_a_process_that_dies_costs_its_own_task_only(worker: DrawingProcess):
    dead, unread, after = worker.submit(Dies()), worker.submit(Unreadable()), worker.submit(Steps(1))
    assert ended(dead).state == "crashed"
    assert ended(unread).state == "crashed"
    assert ended(after).state == "done"


def test_what_cannot_be_kept_is_told_and_the_process_goes_on(worker: DrawingProcess):
    def full(event: WorkerEvent) -> None:
        raise OSError(28, "No space left on device", "/out/session.json")

    ticket = ended(worker.submit(Steps(2), full))
    assert (ticket.state, ticket.message) == ("failed", "/out/session.json: No space left on device")
    assert ended(worker.submit(Steps(1))).state == "done"


def test_closing_ends_the_process():
    own = DrawingProcess()
    ticket = own.submit(Steps(100_000, 0.01))
    until(lambda: ticket.progress is not None)
    process = own._process
    own.close()
    process.join(timeout=10)
    assert not process.is_alive()
