"""Processes that answer question after question, and end with the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, NamedTuple, TypeVar

__all__ = ["AnsweringProcess", "ProcessDied", "in_order", "workers_for"]

Q = TypeVar("Q")
A = TypeVar("A")

_FEW = 64
"""Questions for which no process is worth starting: that takes about as long as reading so many small samples."""

_AHEAD = 2
"""Parcels per process that are handed out before the first of them has been asked for."""


class ProcessDied(ValueError):
    """A process ended in the middle of its work: a decoder crashed, or the memory was full.

    Args:
        code: Its exit code; negative for a signal.
        questions: What it had in hand.
    """

    def __init__(self, code: int | None, questions: tuple[Any, ...]) -> None:
        super().__init__(
            f"a process ended in the middle of its work (exit code {code}). If the memory was full, fewer --workers "
            "need less"
        )
        self.code, self.questions = code, questions


class _TheirTraceback(Exception):
    """Where in the other process an error comes from, as text."""


class _Answers(NamedTuple):
    """Of a parcel."""

    answers: list[Any]
    """Up to the question that raised."""
    error: Exception | None
    where: str
    """The error's traceback."""


class AnsweringProcess(Generic[Q, A]):
    """Takes one question at a time; a process that has died is replaced when the next question comes.

    The process ends with the one that made it, even if that one is killed in the middle of a question. It inherits the
    environment as it is when the process starts.

    Args:
        make: Called in the process; makes the function that answers. Must be picklable.
    """

    def __init__(self, make: Callable[[], Callable[[Q], A]]) -> None:
        self._make = pickle.dumps(make)
        self.question: Q | None = None
        """What it has in hand."""
        self._start()

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")  # a fork would copy the locks of libraries' threads
        self.connection, theirs = spawn.Pipe()
        """Is ready to be read when `take` will not wait. Each new process has a new one."""
        self._process = spawn.Process(target=_serve, args=(theirs, self._make), daemon=True)
        self._process.start()
        theirs.close()

    def give(self, question: Q) -> None:
        """Start with a question, which must be picklable."""
        assert self.question is None, "one question at a time"
        if not self._process.is_alive():
            self.connection.close()
            self._start()
        self.question = question
        with suppress(BrokenPipeError, ConnectionResetError):  # it has just ended: `take` says how
            self.connection.send(question)

    def take(self) -> A:
        """Wait for the answer.

        Raises:
            ProcessDied: there will be none.
            Exception: what making the function, or the function, has raised.
        """
        assert self.question is not None, "there must be a question to wait for"
        question, self.question = self.question, None
        try:
            answer, error, where = self.connection.recv()
        except (EOFError, ConnectionResetError, BrokenPipeError):
            self._process.join(timeout=10)
            code = self._process.exitcode
            self.stop()
            raise ProcessDied(code, (question,)) from None
        if error is not None:
            raise error from _TheirTraceback(f"\n{where}")
        return answer

    def stop(self) -> None:
        """End the process now."""
        self.connection.close()
        self._process.terminate()
        self._process.join(timeout=10)


def workers_for(given: int | None, count: int) -> int:
    """How many processes to start for `count` questions, for `in_order`.

    Args:
        given: What the user has said; None takes one per core that this process may use, and none for few questions.
        count: How many questions there are.
    """
    if given is not None:
        return given
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, count // _FEW)


def in_order(
    make: Callable[[], Callable[[Q], A]], questions: Iterable[Q], workers: int, *, parcel: int = 16
) -> Generator[A, None, None]:
    """The answer to each question, in the questions' order. Closing the generator ends the processes.

    Args:
        make: Makes the function that answers, in each process once; picklable.
        questions: Picklable, too.
        workers: Processes; 0 answers in this one, which gives the same.
        parcel: Questions that go to a process at once. Few parcels are ahead of what has been asked for, so that
            answers do not fill the memory.

    Raises:
        ProcessDied: a process ended; the answers before its parcel have been given by then.
        Exception: what the function raised, when it is the turn of that question.
    """
    if workers == 0:
        yield from map(make(), questions)
        return
    left = iter(questions)
    parcels: Iterator[tuple[Q, ...]] = iter(lambda: tuple(islice(left, parcel)), ())
    make_all = _Parcels(make)
    pool: list[AnsweringProcess[tuple[Q, ...], _Answers]] = []
    numbers: dict[AnsweringProcess, int] = {}
    came: dict[int, _Answers] = {}
    handed = turn = 0
    try:
        while len(pool) < workers:
            pool.append(AnsweringProcess(make_all))
        while True:
            for process in pool:
                if process.question is None and handed - turn < _AHEAD * workers:
                    if (some := next(parcels, None)) is None:
                        break
                    process.give(some)
                    numbers[process], handed = handed, handed + 1
            if turn in came:
                answers, error, where = came.pop(turn)
                yield from answers
                if error is not None:
                    raise error from (_TheirTraceback(f"\n{where}") if where else error.__cause__)
                turn += 1
                continue
            if turn == handed:
                return
            busy = {process.connection: process for process in pool if process.question is not None}
            for connection in wait(list(busy)):
                process = busy[connection]  # pyright: ignore[reportArgumentType] - these are all connections
                try:
                    came[numbers[process]] = process.take()
                except ProcessDied as died:
                    came[numbers[process]] = _Answers([], ProcessDied(died.code, died.questions[0]), "")
                except Exception as error:  # of `make`
                    came[numbers[process]] = _Answers([], error, "")
    finally:
        for process in pool:
            process.stop()


class _Parcels(Generic[Q, A]):
    """Makes a function for many questions of one for each."""

    def __init__(self, make: Callable[[], Callable[[Q], A]]) -> None:
        self._make = pickle.dumps(make)  # once for all processes: it may hold a list of all samples

    def __call__(self) -> Callable[[tuple[Q, ...]], _Answers]:
        answer = pickle.loads(self._make)()

        def answer_all(questions: tuple[Q, ...]) -> _Answers:
            found: list[A] = []
            try:
                for question in questions:
                    found.append(answer(question))  # noqa: PERF401 - those before an error are wanted
            except Exception as error:
                return _Answers(found, _sendable(error), traceback.format_exc())
            return _Answers(found, None, "")

        return answer_all


def _serve(connection: Connection, make: bytes) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group: the parent decides
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        answer = pickle.loads(make)()
    except Exception as error:
        connection.recv()  # it answers the first question
        connection.send((None, _sendable(error), traceback.format_exc()))
        return
    _use_one_thread()
    while True:
        try:
            question = connection.recv()
        except (EOFError, ConnectionResetError):
            return  # the parent needs it no more
        try:
            found = answer(question), None, ""
        except Exception as error:
            found = None, _sendable(error), traceback.format_exc()
        connection.send(found)


def _sendable(error: Exception) -> Exception:
    """The error, or where it cannot cross processes one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an error's own pickling may fail in any way
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in a child only"
    parent.join()
    os._exit(1)  # at once: nobody waits for the answer, and the main thread may be in a decoder


def _use_one_thread() -> None:
    """Workers share the cores: none of them may start a thread per core."""
    import cv2

    cv2.setNumThreads(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
