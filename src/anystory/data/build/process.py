"""A worker in a process of its own, so that an item that kills its process costs itself only."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from anystory.data.build.plan import Plan
from anystory.data.build.sources.base import Item
from anystory.data.build.worker import Worker, failed

__all__ = ["WorkerProcess"]


class WorkerProcess:
    """Takes one item at a time; a process that has died is replaced when the next item comes.

    The process ends with the one that made it, even if that one is killed in the middle of an item. It inherits the
    environment as it is when the process starts.

    Args:
        plan: What to do.
        digest: The plan's digest; handed in because to compute it loads the steps, which only the process needs.
        folder: The source's folder.
    """

    def __init__(self, plan: Plan, digest: str, folder: Path) -> None:
        self._plan, self._digest, self._folder = plan, digest, folder
        self.item: Item | None = None
        """What it has in hand."""
        self._start()

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")  # a fork would copy the locks of libraries' threads
        self.connection, theirs = spawn.Pipe()
        """Is ready to be read when `take` will not wait. Each new process has a new one."""
        self._process = spawn.Process(target=_serve, args=(theirs, self._plan.model_dump(), self._folder), daemon=True)
        self._process.start()
        theirs.close()

    def give(self, item: Item) -> None:
        """Start with an item."""
        assert self.item is None, "one item at a time"
        if not self._process.is_alive():
            self.connection.close()
            self._start()
        self.item = item
        with suppress(BrokenPipeError, ConnectionResetError):  # it has just ended: `take` says how
            self.connection.send(item)

    def take(self) -> tuple[Item, bytes]:
        """Wait for its item's outcome: a failure if the process has died.

        Raises:
            ValueError: the plan cannot be carried out.
        """
        assert self.item is not None, "there must be an item to wait for"
        item, self.item = self.item, None
        try:
            answer = self.connection.recv()
        except (EOFError, ConnectionResetError, BrokenPipeError):
            self._process.join(timeout=10)
            code = self._process.exitcode  # negative for a signal
            self.stop()
            return item, failed(item, self._digest, f"it ended its worker process (exit code {code})")
        if isinstance(answer, ValueError):
            raise answer
        return item, answer

    def stop(self) -> None:
        """End the process now."""
        self.connection.close()
        self._process.terminate()
        self._process.join(timeout=10)


def _serve(connection: Connection, plan: dict[str, Any], folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group: the parent decides
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        worker = Worker(Plan.model_validate(plan), folder)
    except ValueError as error:
        connection.recv()  # it answers the first item
        connection.send(error)
        return
    _use_one_thread()
    while True:
        try:
            item = connection.recv()
        except (EOFError, ConnectionResetError):
            return  # the parent needs it no more
        connection.send(worker(item))


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in a child only"
    parent.join()
    os._exit(1)  # at once: nobody waits for the item in hand, and the main thread may be in a decoder


def _use_one_thread() -> None:
    """Workers share the cores: none of them may start a thread per core."""
    import cv2

    cv2.setNumThreads(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
