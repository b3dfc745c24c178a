"""A worker in a process of its own, so that an item that kills its process costs itself only."""

from __future__ import annotations

from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from anystory.data.build.plan import Plan
from anystory.data.build.sources.base import Item
from anystory.data.build.worker import Worker, failed
from anystory.data.processes import AnsweringProcess, ProcessDied

__all__ = ["WorkerProcess"]


class WorkerProcess:
    """Takes one item at a time; see `AnsweringProcess`.

    Args:
        plan: What to do.
        digest: The plan's digest; handed in because to compute it loads the steps, which only the process needs.
        folder: The source's folder.
    """

    def __init__(self, plan: Plan, digest: str, folder: Path) -> None:
        self._digest = digest
        self._process: AnsweringProcess[Item, bytes] = AnsweringProcess(partial(Worker, plan, folder))

    @property
    def item(self) -> Item | None:
        """What it has in hand."""
        return self._process.question

    @property
    def connection(self) -> Connection:
        """Is ready to be read when `take` will not wait. Each new process has a new one."""
        return self._process.connection

    def give(self, item: Item) -> None:
        """Start with an item."""
        self._process.give(item)

    def take(self) -> tuple[Item, bytes]:
        """Wait for its item's outcome: a failure if the process has died.

        Raises:
            ValueError: the plan cannot be carried out.
        """
        item = self._process.question
        assert item is not None, "there must be an item to wait for"
        try:
            return item, self._process.take()
        except ProcessDied as died:
            return item, failed(item, self._digest, f"it ended its worker process (exit code {died.code})")

    def stop(self) -> None:
        """End the process now."""
        self._process.stop()
