"""What happens to jobs, for whoever listens meanwhile. Nothing of it is kept: the store has what lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any, NamedTuple

__all__ = ["FeedEvent", "Feeds", "Listener"]

_MOST = 256
"""Events that wait for a slow listener; further steps and previews are left out, never the end."""


class FeedEvent(NamedTuple):
    """Something that happened to a job."""

    kind: str
    """"step", "preview", "picture" or "job": the last says that the job's state has changed."""
    data: dict[str, Any]


class Listener:
    """The events of one job, for one coroutine."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._queue = loop, asyncio.Queue[FeedEvent]()

    async def next(self, seconds: float) -> FeedEvent | None:
        """The next event, or None if there is none for some seconds."""
        try:
            return await asyncio.wait_for(self._queue.get(), seconds)
        except asyncio.TimeoutError:
            return None

    def put(self, event: FeedEvent) -> None:
        """Add an event, from any thread."""
        with suppress(RuntimeError):  # the loop is closed: the server ends
            self._loop.call_soon_threadsafe(self._put, event)

    def _put(self, event: FeedEvent) -> None:
        if event.kind == "job" or self._queue.qsize() < _MOST:
            self._queue.put_nowait(event)


class Feeds:
    """The listeners of all jobs."""

    def __init__(self) -> None:
        self._lock, self._listeners = Lock(), dict[str, list[Listener]]()
        self._last = dict[str, FeedEvent]()

    def tell(self, job: str, event: FeedEvent) -> None:
        """Tell a job's listeners, from any thread."""
        with self._lock:
            if event.kind == "step":
                self._last[job] = event
            elif event.kind == "job":
                self._last.pop(job, None)
            listeners = list(self._listeners.get(job, ()))
        for listener in listeners:
            listener.put(event)

    def last_step(self, job: str) -> dict[str, Any] | None:
        """How far a running job is."""
        with self._lock:
            found = self._last.get(job)
        return None if found is None else found.data

    @contextmanager
    def listening(self, job: str) -> Iterator[Listener]:
        """Hear of a job while the block runs, in a coroutine."""
        listener = Listener(asyncio.get_running_loop())
        with self._lock:
            self._listeners.setdefault(job, []).append(listener)
        try:
            yield listener
        finally:
            with self._lock:
                mine = self._listeners[job]
                mine.remove(listener)
                if not mine:
                    del self._listeners[job]
