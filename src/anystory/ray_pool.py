"""A pool of actors on a Ray cluster (the extra `ray`), with what `process_pool.ProcessPool` offers.

Each actor has one task at a time, and results come back to this process, which alone keeps them. So whatever dies on
the cluster, an actor or a whole machine, costs the tasks that it was at: they are given to other actors. Machines that
join later get actors, too.
"""

from __future__ import annotations

import os
import pickle
import platform
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Generic, TypeVar

from typing_extensions import Self

from anystory.extras import need
from anystory.process_pool import use_one_thread

__all__ = ["RayPool", "connect", "reason_of"]

Task = TypeVar("Task")
Result = TypeVar("Result")

_TRIES = 3
"""A task that ended so many actors is given up, and so is a cluster whose actors do not start."""
_LOOK = 2.0
"""Seconds between two looks at the cluster's size."""
_PATIENCE = 60.0
"""Seconds that a cluster may have no room for a single actor: a machine may come back."""


def connect(ray: Any, address: str, instead: str) -> None:
    """Join a Ray cluster, or start one.

    Args:
        ray: The module.
        address: `auto` for the cluster that this machine belongs to, `local` for a new one on this machine alone, or
            `host:port`.
        instead: What the user can do without Ray, for the message.

    Raises:
        ValueError: no cluster answers.
    """
    try:
        ray.init(
            address=address,
            include_dashboard=False if address == "local" else None,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except Exception as error:  # refused connections, wrong versions and time-outs are all different classes
        raise ValueError(
            f'no Ray cluster answers at {address!r} ({reason_of(error)}). Start one with "ray start --head", '
            f"or use --ray local, or {instead} without --ray"
        ) from None


def reason_of(error: BaseException) -> str:
    """The last line of an error's text: Ray's begin with a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


class RayPool(Generic[Task, Result]):
    """Actors that each run one task at a time.

    Args:
        make: Called once in each actor; makes the function that runs tasks. Must be picklable.
        most: Most actors; fewer where the cluster has fewer cores or GPUs.
        address: See `connect`.
        gpu: Whether each actor takes a GPU, which is then the only one that it sees.

    Raises:
        ValueError: Ray is not installed, no cluster answers, or it has no GPU.
    """

    def __init__(self, make: Callable[[], Callable[[Task], Result]], most: int, address: str, *, gpu: bool) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._ray = need("ray", "--ray", "ray")
        self._most, self._address, self._resource = most, address, "GPU" if gpu else "CPU"
        self._mine = not self._ray.is_initialized()
        if self._mine:
            connect(self._ray, address, "--jobs")
        self._actor = self._ray.remote(num_cpus=1, num_gpus=int(gpu), max_restarts=0, max_task_retries=0)(_PoolActor)
        self._make = pickle.dumps(make)
        self._starting: dict[Any, Any] = {}
        self._ready: list[Any] = []
        self._running: dict[Any, tuple[Any, _OpenTask]] = {}
        self._again: deque[_OpenTask] = deque()
        self._failed_starts, self._cramped_since = 0, float("inf")
        if not self._room():
            self.close()
            raise ValueError(f"the Ray cluster at {address!r} has no {self._resource}: see `ray status`")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def idle(self) -> bool:
        """Whether an actor waits for a task."""
        return len(self._ready) > len(self._again)

    def submit(self, task: Task) -> Future[Result]:
        """Give a picklable task to an idle actor.

        Returns:
            A future that `wait` completes. It raises what `make` or the function raised, or ValueError for a task that
            lost its actor again and again.
        """
        given = _OpenTask(task)
        self._start(given)
        return given.future

    def wait(self) -> list[Future[Result]]:
        """Wait until a task ends, an actor is ready, or a moment has passed; the futures of tasks that have ended.

        Raises:
            ValueError: no actor starts on the cluster, or it has no room for one any more.
        """
        self._grow()
        while self._again and self._ready:
            self._start(self._again.popleft())
        everything = [*self._starting, *self._running]
        if not everything:
            time.sleep(_LOOK)
            return []
        done, _ = self._ray.wait(everything, timeout=_LOOK)
        for reference in done:
            if reference in self._starting:
                self._started(reference)
        return [future for one in done if one in self._running and (future := self._finish(one)) is not None]

    def close(self) -> None:
        """End all actors now."""
        for actor in [*self._starting.values(), *self._ready, *(actor for actor, _ in self._running.values())]:
            self._ray.kill(actor)
        if self._mine:
            self._ray.shutdown()

    def _room(self) -> int:
        """How many actors the cluster has cores or GPUs for, busy ones included."""
        return int(self._ray.cluster_resources().get(self._resource, 0))

    def _grow(self) -> None:
        """Start actors for the room that there is; raise ValueError where there has been none for long."""
        room = self._room()
        alive = len(self._starting) + len(self._ready) + len(self._running)
        for _ in range(min(self._most, room) - alive):
            actor = self._actor.remote(self._make)
            self._starting[actor.ready.remote()] = actor
        self._cramped_since = float("inf") if room else min(self._cramped_since, time.monotonic())
        if time.monotonic() - self._cramped_since > _PATIENCE:
            raise ValueError(f"the Ray cluster at {self._address!r} has no {self._resource} any more")

    def _start(self, given: _OpenTask) -> None:
        actor = self._ready.pop()
        self._running[actor.run.remote(given.task)] = (actor, given)

    def _started(self, reference: Any) -> None:
        actor = self._starting.pop(reference)
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._failed_starts += 1
            if self._failed_starts >= _TRIES + self._most:
                raise ValueError(
                    f"no actor starts on the Ray cluster at {self._address!r}: {reason_of(error)}"
                ) from error
        else:
            self._failed_starts = 0
            self._ready.append(actor)

    def _finish(self, reference: Any) -> Future[Any] | None:
        """Complete a task's future; None for one whose actor is gone: it waits for another."""
        actor, given = self._running.pop(reference)
        try:
            result, error = self._ray.get(reference)
        except self._ray.exceptions.RayError as lost:
            given.lost += 1
            if given.lost < _TRIES:
                self._again.append(given)
                return None
            text = f"the Ray cluster lost the actor of a task {_TRIES} times: {reason_of(lost)}"
            given.future.set_exception(ValueError(text))
            return given.future
        self._ready.append(actor)
        given.future.set_result(result) if error is None else given.future.set_exception(error)
        return given.future


class _OpenTask:
    """A task, and how often it lost its actor."""

    def __init__(self, task: Any) -> None:
        self.task, self.lost = task, 0
        self.future: Future[Any] = Future()


class _PoolActor:
    """Runs on the cluster."""

    def __init__(self, make: bytes) -> None:
        self._make, self._run = make, None

    def ready(self) -> str:
        """Whether it is there; on which machine."""
        return platform.node()

    def run(self, task: Any) -> tuple[Any, Exception | None]:
        """A task's result, or what it raised."""
        try:
            if self._run is None:
                self._run = pickle.loads(self._make)()
                use_one_thread()
            return self._run(task), None
        except Exception as error:
            return None, _portable(error)


def _portable(error: Exception) -> Exception:
    """The same error, or one that can be pickled and says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an error's own pickling may fail in any way
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
