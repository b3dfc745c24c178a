"""The package's pool of processes: results in order, and a process that dies costs its own task only.

No process outlives the one that started it. docs/decisions.md ("Libraries") says why this is no library's pool.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Generic, TypeVar

from typing_extensions import Self

__all__ = ["ProcessPool", "WorkerDied", "available_cores", "in_order", "use_one_thread", "worker_count"]

Task = TypeVar("Task")
Result = TypeVar("Result")

_FEW = 64
"""Starting a process takes about as long as this many small tasks."""

_AHEAD = 2
"""Chunks per process that `in_order` hands out before the first of them is asked for."""


class WorkerDied(ValueError):
    """A process ended during its task: a decoder crashed, or the memory was full.

    Args:
        code: Its exit code; negative for a signal.
        task: What it was doing.
    """

    def __init__(self, code: int | None, task: Any) -> None:
        super().__init__(
            f"a worker process died during its task (exit code {code}). If the memory was full, use fewer --workers"
        )
        self.code, self.task = code, task


class _RemoteTraceback(Exception):
    """Where in the worker an error comes from, as text."""


class _RemoteError:
    """Pickles an exception with its traceback, and unpickles as that exception; made while it is handled."""

    def __init__(self, error: Exception) -> None:
        self._where = traceback.format_exc()
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # an error's own pickling may fail in any way
            error = RuntimeError(f"{type(error).__name__}: {error}")
        self._error = error

    def __reduce__(self) -> tuple[Any, tuple[Exception, str]]:
        return _with_cause, (self._error, self._where)


def _with_cause(error: Exception, where: str) -> Exception:
    error.__cause__ = _RemoteTraceback(f"\n{where}")
    return error


class ProcessPool(Generic[Task, Result]):
    """Processes that each run one task at a time; one that has died is replaced when the next task comes.

        with ProcessPool(make, 2) as pool:
            first, second = pool.submit(task), pool.submit(other)
            done = pool.wait()  # [first] or [second] or both

    Args:
        make: Called once in each process; makes the function that runs tasks. Must be picklable. Several: they take
            turns, the first for the first process.
        workers: Number of processes, ≥ 1.
    """

    def __init__(
        self,
        make: Callable[[], Callable[[Task], Result]] | Sequence[Callable[[], Callable[[Task], Result]]],
        workers: int,
    ) -> None:
        made = [pickle.dumps(one) for one in ([make] if callable(make) else make)]
        self._workers = [_Worker(made[place % len(made)]) for place in range(workers)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def idle(self) -> bool:
        """Whether a process waits for a task."""
        return any(worker.future is None for worker in self._workers)

    def submit(self, task: Task) -> Future[Result]:
        """Give a picklable task to an idle process.

        Returns:
            A future that `wait` completes. It raises what `make` or the function raised, or WorkerDied.
        """
        place = next(place for place, worker in enumerate(self._workers) if worker.future is None)
        if not self._workers[place].process.is_alive():
            self._workers[place].stop()
            self._workers[place] = _Worker(self._workers[place].make)
        return self._workers[place].start(task)

    def wait(self) -> list[Future[Result]]:
        """Wait until a task ends, and return the futures of all that have ended."""
        busy = {worker.connection: worker for worker in self._workers if worker.future is not None}
        return [busy[connection].finish() for connection in wait(list(busy))]  # pyright: ignore[reportArgumentType]

    def close(self) -> None:
        """End all processes now."""
        for worker in self._workers:
            worker.stop()


class _Worker:
    """One process and its task."""

    def __init__(self, make: bytes) -> None:
        self.make = make
        spawn = multiprocessing.get_context("spawn")  # a fork would copy the locks of libraries' threads
        self.connection, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(theirs, make), daemon=True)
        self.process.start()
        theirs.close()  # the process's own end is the only one: when it dies, the pipe ends
        self.future: Future[Any] | None = None

    def start(self, task: Any) -> Future[Any]:
        self.task, self.future = task, Future()
        with suppress(BrokenPipeError, ConnectionResetError):  # it has just died: `finish` reports that
            self.connection.send(task)
        return self.future

    def finish(self) -> Future[Any]:
        future, self.future = self.future, None
        assert future is not None, "it has a task"
        try:
            result, error = self.connection.recv()
        except (EOFError, ConnectionResetError, BrokenPipeError):
            self.process.join(timeout=10)
            result, error = None, WorkerDied(self.process.exitcode, self.task)
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
        return future

    def stop(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join(timeout=10)


def in_order(
    make: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task], workers: int, *, chunk: int = 16
) -> Generator[Result, None, None]:
    """The result of each task, in the tasks' order. Closing the generator ends the processes.

    Args:
        make: Makes the function that runs tasks, once in each process; picklable.
        tasks: Picklable, too; may be endless. Few are handed out ahead, so that results do not fill the memory.
        workers: Number of processes; 0 runs the tasks in this one, with the same results.
        chunk: Tasks that a process gets at once.

    Raises:
        WorkerDied: a process died; `task` is its chunk, a tuple. The results before that chunk have been given.
        Exception: what the function raised, when it is that task's turn.
    """
    if workers == 0:
        yield from map(make(), tasks)
        return
    left = iter(tasks)
    chunks = iter(lambda: tuple(islice(left, chunk)), ())
    futures: deque[Future[tuple[list[Result], Exception | None]]] = deque()
    with ProcessPool(partial(_chunk_runner, make), workers) as pool:
        while True:
            while pool.idle and len(futures) < _AHEAD * workers and (some := next(chunks, None)) is not None:
                futures.append(pool.submit(some))
            if not futures:
                return
            if not futures[0].done():
                pool.wait()
                continue
            results, error = futures.popleft().result()
            yield from results
            if error is not None:
                raise error


def _chunk_runner(make: Callable[[], Callable[[Task], Result]]) -> Callable[[tuple[Task, ...]], Any]:
    """A function that runs a chunk of tasks: the results up to the first error, and that error."""
    return partial(_run_chunk, make())


def _run_chunk(run: Callable[[Task], Result], tasks: tuple[Task, ...]) -> tuple[list[Result], _RemoteError | None]:
    results: list[Result] = []
    try:
        for task in tasks:
            results.append(run(task))  # noqa: PERF401 - those before an error are wanted
    except Exception as error:
        return results, _RemoteError(error)
    return results, None


def available_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_count(given: int | None, tasks: int) -> int:
    """How many processes `in_order` should start.

    Args:
        given: What the user asked for; None takes one per core, and for few tasks 0.
        tasks: The number of tasks.
    """
    return min(available_cores(), tasks // _FEW) if given is None else given


def _serve(connection: Connection, make: bytes) -> None:
    """What a worker process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    run = None
    with suppress(EOFError, ConnectionResetError):  # the pool was closed
        while True:
            task = connection.recv()
            try:
                if run is None:
                    run = pickle.loads(make)()
                    use_one_thread()
                answer = run(task), None
            except Exception as error:
                answer = None, _RemoteError(error)
            connection.send(answer)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in a child only"
    parent.join()
    os._exit(1)  # at once: nobody waits for the result, and the main thread may be in a decoder


def use_one_thread() -> None:
    """Workers share the cores: none may start a thread per core."""
    import cv2

    cv2.setNumThreads(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
