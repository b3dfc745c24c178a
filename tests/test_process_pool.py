"""The pool of processes: the same results in order however many there are, and nothing left when it is closed.

What they run is from the standard library: a process can import it whatever the tests' modules are called.
"""

from __future__ import annotations

import itertools
import math
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from anystory.process_pool import ProcessPool, WorkerDied, in_order, worker_count

ROOTS = partial(partial, math.sqrt)
"""Makes a function that answers with the root, and raises ValueError below 0."""

EVALUATED: Any = partial(partial, eval)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_answers_come_in_order_and_an_error_when_it_is_its_turn(workers: int) -> None:
    wanted = [float(i) for i in range(50)]
    assert list(in_order(ROOTS, [i * i for i in range(50)], workers, chunk=4)) == wanted
    found = []
    with pytest.raises(ValueError, match="math domain error"):
        for answer in in_order(ROOTS, [*(i * i for i in range(30)), -1, 4], workers, chunk=4):
            found.append(answer)  # noqa: PERF402 - those before the error are wanted
    assert found == wanted[:30]
    assert list(in_order(ROOTS, [], workers)) == []


def test_slow_answers_do_not_change_the_order() -> None:
    sums: Any = partial(partial, sum)
    questions: list[Any] = [range(10**7), range(3), range(4 * 10**6), range(4), range(10**6), range(5)]
    assert list(in_order(sums, questions, 2, chunk=1)) == [sum(one) for one in questions]


def test_no_more_is_handed_out_than_will_soon_be_wanted() -> None:
    questions = itertools.count()  # it would never end
    answers = in_order(ROOTS, questions, 2, chunk=4)
    assert [next(answers) for _ in range(5)] == [math.sqrt(i) for i in range(5)]
    answers.close()
    assert next(questions) <= 6 * 4


def test_what_cannot_be_made_is_told_once_and_at_once() -> None:
    failing: Any = partial(divmod, 1, 0)
    with pytest.raises(ZeroDivisionError):
        list(in_order(failing, range(9), 2))


def test_a_process_that_dies_is_told_with_what_it_had() -> None:
    with pytest.raises(WorkerDied, match=r"exit code 7.*fewer --workers") as caught:
        list(in_order(partial(partial, os._exit), [7] * 5, 1, chunk=2))
    assert caught.value.task == (7, 7)


def test_a_task_that_kills_its_process_costs_itself_only() -> None:
    """Beside large results, which keep the parent busy while a process dies."""
    tasks = [(i, "__import__('os')._exit(7)" if i % 10 == 3 else "bytes(5_000_000)") for i in range(20)]
    left, running, found = iter(tasks), {}, {}
    with ProcessPool(EVALUATED, 2) as pool:
        while True:
            while pool.idle and (task := next(left, None)) is not None:
                running[pool.submit(task[1])] = task[0]
            if not running:
                break
            for future in pool.wait():
                error = future.exception()
                found[running.pop(future)] = error.code if isinstance(error, WorkerDied) else len(future.result())
    assert found == {i: 7 if i % 10 == 3 else 5_000_000 for i in range(20)}


def test_an_error_arrives_with_its_message_and_where_it_was_raised() -> None:
    with pytest.raises(ValueError, match="math domain error") as caught:
        list(in_order(ROOTS, [-1], 1))
    assert "run(task)" in str(caught.value.__cause__)
    unpicklable = "(_ for _ in ()).throw(type('Local', (Exception,), {})('no 3'))"
    with pytest.raises(RuntimeError, match="Local: no 3"):
        list(in_order(EVALUATED, [unpicklable], 1))


def test_few_questions_need_no_process() -> None:
    assert worker_count(None, 10) == 0
    assert worker_count(None, 10**9) >= 1
    assert worker_count(5, 1) == 5


_WAITING = """
import signal, sys, time
from functools import partial
from anystory.process_pool import in_order
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    for _ in in_order(partial(partial, time.sleep), [0, 0, 0, 60, 60, 60], 2, chunk=1):
        print("begun", flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at /proc")
@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_the_one_that_started_them(way: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "waiting.py").write_text(_WAITING)
    command = [sys.executable, str(tmp_path / "waiting.py")]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    assert parent.stdout is not None
    for _ in range(3):
        assert parent.stdout.readline() == b"begun\n"
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    assert len(children) >= 2
    if way is signal.SIGINT:
        os.killpg(parent.pid, way)  # as a terminal does
    else:
        parent.send_signal(way)
    _, said = parent.communicate(timeout=20)
    assert parent.returncode == -way
    assert said.count(b"Traceback") == (1 if way is signal.SIGINT else 0), "the children say nothing"
    end = time.monotonic() + 10
    while any(Path("/proc", child).exists() for child in children) and time.monotonic() < end:
        time.sleep(0.02)
    assert not [child for child in children if _runs(child)]


def _runs(pid: str) -> bool:
    status = Path("/proc", pid, "status")
    return status.exists() and "\nState:\tZ" not in status.read_text()
