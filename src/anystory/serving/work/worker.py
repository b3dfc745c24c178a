"""A worker, seen from the server: a process with a model that draws what it is given."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock
from typing import Any, Protocol

from anystory.serving.work.messages import Message, Ready, WorkerSetup, WorkerTask
from anystory.serving.work.worker_process import CANCEL, DREW, PAUSE, RUN, run_worker

__all__ = ["DrawingWorker", "ProcessWorker", "WorkerLost", "WorkerRefused"]

_FAREWELL = 5.0
"""Seconds that a process has to end by itself."""


class WorkerLost(RuntimeError):
    """The worker ended while it drew."""


class WorkerRefused(ValueError):
    """The worker cannot load its model; another try would not help."""


class DrawingWorker(Protocol):
    """What draws tasks. One thread runs it; any thread may call `cancel` and `pause`."""

    name: str
    """For messages and metrics: its device."""

    @property
    def alive(self) -> bool:
        """Whether it can draw."""
        ...

    def start(self) -> Ready:
        """Load the model, again if it was lost.

        Raises:
            WorkerRefused: it cannot.
            WorkerLost: it ended meanwhile.
        """
        ...

    def run(self, tasks: Sequence[WorkerTask], tell: Callable[[Message], None]) -> None:
        """Draw tasks: each is done, failed or stopped when this returns.

        Raises:
            WorkerLost: it ended before that.
        """
        ...

    def cancel(self, job: str) -> None:
        """End a task after the sampling step in progress."""
        ...

    def pause(self) -> None:
        """Let a long task stop where it can be continued."""
        ...

    def stop(self) -> None:
        """End it now."""
        ...


class ProcessWorker:
    """See `DrawingWorker`: a process of this machine.

    Args:
        setup: What it needs; its name must be unique in the server's folder.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self.name = setup.name
        self._setup, self._lock = setup, Lock()
        self._process: Any = None
        self._connection: Any = None

    @property
    def alive(self) -> bool:
        """See `DrawingWorker.alive`."""
        return self._process is not None and self._process.is_alive()

    def start(self) -> Ready:
        """See `DrawingWorker.start`."""
        self.stop()
        spawn = multiprocessing.get_context("spawn")  # a fork would copy the locks of the server's threads
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=run_worker, args=(theirs, self._setup), daemon=True, name=f"worker {self.name}")
        process.start()
        theirs.close()  # the process's own end is the only one: when it dies, the pipe ends
        with self._lock:
            self._process, self._connection = process, ours
        found = self._receive()
        if isinstance(found, Ready):
            return found
        raise WorkerRefused(found)

    def run(self, tasks: Sequence[WorkerTask], tell: Callable[[Message], None]) -> None:
        """See `DrawingWorker.run`."""
        if not self._send(RUN, list(tasks)):
            raise self._lost()
        while (message := self._receive()) != DREW:
            tell(message)

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            raise self._lost() from None

    def _lost(self) -> WorkerLost:
        self._process.join(_FAREWELL)
        code = self._process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return WorkerLost(f"the process that draws on {self.name} ended ({how})")

    def _send(self, what: str, value: Any) -> bool:
        with self._lock:
            if self._connection is None:
                return False
            with suppress(OSError, ValueError):
                self._connection.send((what, value))
                return True
            return False

    def cancel(self, job: str) -> None:
        """See `DrawingWorker.cancel`."""
        self._send(CANCEL, job)

    def pause(self) -> None:
        """See `DrawingWorker.pause`."""
        self._send(PAUSE, None)

    def stop(self) -> None:
        """See `DrawingWorker.stop`."""
        with self._lock:
            process, connection, self._connection = self._process, self._connection, None
        if connection is not None:
            connection.close()
        if process is not None:
            process.kill()  # it ignores SIGTERM; what it has kept is whole
            process.join()
