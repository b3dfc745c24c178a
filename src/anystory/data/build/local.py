"""Items through a plan on this machine, by one process or several."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from anystory.data.build.plan import Plan
from anystory.data.build.sources.base import Item
from anystory.data.build.worker import Worker, failed
from anystory.process_pool import ProcessPool, WorkerDied

__all__ = ["item_pool", "outcome_of", "run_here", "run_in_processes"]


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
    """Each item and its outcome, as they are finished.

    An item that kills its process is rejected with that as its reason, and the others go to a new process.

    Raises:
        ValueError: the plan cannot be carried out.
    """
    digest, left = plan.digest(), iter(items)
    running: dict[Future[bytes], Item] = {}
    done: list[Future[bytes]] = []
    with item_pool(plan, folder, min(workers, len(items))) as pool:
        while True:
            while pool.idle and (item := next(left, None)) is not None:
                running[pool.submit(item)] = item
            for future in done:
                item = running.pop(future)
                yield item, outcome_of(future, item, digest)
            if not running:
                return
            done = pool.wait()


def item_pool(plan: Plan, folder: Path, workers: int) -> ProcessPool[Item, bytes]:
    """Processes that take items of a source's folder through a plan."""
    return ProcessPool(partial(Worker, plan, folder), workers)


def outcome_of(future: Future[bytes], item: Item, digest: str) -> bytes:
    """The outcome of an item that `item_pool` has taken through the plan with this digest.

    Raises:
        ValueError: the plan cannot be carried out.
    """
    try:
        return future.result()
    except WorkerDied as died:
        return failed(item, digest, f"it ended its worker process (exit code {died.code})")
