"""Items through a plan on this machine, by one process or several."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from multiprocessing.connection import wait
from pathlib import Path

from anystory.data.build.plan import Plan
from anystory.data.build.process import WorkerProcess
from anystory.data.build.sources.base import Item
from anystory.data.build.worker import Worker

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
    pool: list[WorkerProcess] = []
    try:
        while len(pool) < min(workers, len(items)):
            pool.append(WorkerProcess(plan, digest, folder))
        for process, item in zip(pool, left, strict=False):
            process.give(item)
        while busy := [process for process in pool if process.item is not None]:
            for connection in wait([process.connection for process in busy]):
                process = next(p for p in busy if p.connection is connection)
                done = process.take()
                if (item := next(left, None)) is not None:
                    process.give(item)
                yield done
    finally:
        for process in pool:
            process.stop()
