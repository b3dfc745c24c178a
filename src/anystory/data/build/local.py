"""Items through a plan on this machine, by one process or several."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from anystory.data.build.plan import Plan
from anystory.data.build.sources.base import Item
from anystory.data.build.worker import Worker, failed

__all__ = ["run_here", "run_in_processes"]


def run_here(plan: Plan, folder: Path, items: Sequence[Item]) -> Generator[tuple[Item, bytes], None, None]:
    """Each item and its outcome, one after another in this process.

    Raises:
        ValueError: the plan cannot be carried out.
    """
    worker = Worker(plan, folder)
    for item in items:
        yield item, worker(item)


def run_in_processes(
    plan: Plan, folder: Path, items: Sequence[Item], workers: int
) -> Generator[tuple[Item, bytes], None, None]:
    """Each item and its outcome, in the order in which they are done.

    An item that kills its process (a decoder that crashes, memory that runs out) is rejected with that as its reason,
    and another process takes the dead one's place.

    Raises:
        ValueError: the plan cannot be carried out.
    """
    digest = plan.digest()
    left = iter(items)
    pool = [_Process(plan, folder) for _ in range(min(workers, len(items)))]
    try:
        for process in pool:
            process.give(next(left, None))
        while busy := [process for process in pool if process.item is not None]:
            for connection in wait([process.connection for process in busy]):
                process = next(p for p in busy if p.connection is connection)
                item = process.item
                assert item is not None, "only busy processes are waited for"
                try:
                    outcome = process.take()
                except EOFError:
                    detail = f"it ended its worker process (exit code {process.ended()})"
                    outcome = failed(item, digest, detail)
                    pool[pool.index(process)] = process = _Process(plan, folder)
                process.give(next(left, None))
                yield item, outcome
    finally:
        for process in pool:
            process.stop()


class _Process:
    """A process with a worker in it; takes one item at a time."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        spawn = multiprocessing.get_context("spawn")  # a fork would copy the locks of libraries' threads
        self.connection, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, plan.model_dump(), folder), daemon=True)
        self._process.start()
        theirs.close()
        self.item: Item | None = None

    def give(self, item: Item | None) -> None:
        """Start with an item; None leaves the process idle."""
        self.item = item
        if item is not None:
            with suppress(BrokenPipeError, ConnectionResetError):  # it has ended: `take` says how
                self.connection.send(item)

    def take(self) -> bytes:
        """Wait for the outcome of its item.

        Raises:
            EOFError: the process has ended.
            ValueError: it cannot carry out the plan.
        """
        try:
            answer = self.connection.recv()
        except (ConnectionResetError, BrokenPipeError):
            raise EOFError from None
        if isinstance(answer, ValueError):
            raise answer
        return answer

    def ended(self) -> int | None:
        """Wait for the process's end; its exit code, negative for a signal."""
        self._process.join(timeout=10)
        return self._process.exitcode

    def stop(self) -> None:
        """End the process now."""
        self.connection.close()
        self._process.terminate()
        self._process.join(timeout=10)


def _serve(connection: Connection, plan: dict[str, Any], folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group: the parent decides
    try:
        worker = Worker(Plan.model_validate(plan), folder)
    except ValueError as error:
        connection.recv()  # it answers the first item
        connection.send(error)
        return
    use_one_thread()
    while True:
        try:
            item = connection.recv()
        except (EOFError, ConnectionResetError):
            return  # the parent has ended
        connection.send(worker(item))


def use_one_thread() -> None:
    """Workers share the cores: none of them may start a thread per core."""
    import cv2

    cv2.setNumThreads(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
