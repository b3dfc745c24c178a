"""The server without HTTP: jobs come in, workers draw them, results wait to be fetched and go after a while."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from threading import Event, Thread

from anystory.files import only_writer
from anystory.serving.errors import ApiError
from anystory.serving.feeds import Feeds
from anystory.serving.keys import ApiKey, KeyRing, RequestPace
from anystory.serving.metrics import Metrics
from anystory.serving.settings import ServerSettings
from anystory.serving.store.data_folder import DataFolder
from anystory.serving.store.database import Database
from anystory.serving.store.job import NewJob, StoredJob
from anystory.serving.store.jobs import JobStore, KeyReusedError, QueueFullError
from anystory.serving.store.uploads import UploadStore
from anystory.serving.work.dispatcher import Dispatcher
from anystory.serving.work.worker import DrawingWorker

__all__ = ["Service"]

_RETRY = 30.0
"""Seconds after which a client may try again, where nothing is known."""
_SWEEP = 60.0
"""Seconds between two looks for what has expired."""


class Service:
    """All that a server holds while it runs.

    Args:
        settings: How it is run.
        keys: Who may use it.
        workers: What draws.
        clock: Seconds since 1970.

    Raises:
        ValueError: another server runs with this folder, or its files are damaged.
    """

    def __init__(
        self,
        settings: ServerSettings,
        keys: KeyRing,
        workers: Sequence[DrawingWorker],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings, self.keys, self._clock = settings, keys, clock
        self.data, self.pace, self.feeds = DataFolder(settings.data), RequestPace(), Feeds()
        with ExitStack() as opened:
            opened.enter_context(only_writer(self.data.root))
            database = Database(self.data.database)
            opened.callback(database.close)
            self.jobs = JobStore(database, settings.queue, clock)
            self.uploads = UploadStore(database, self.data, settings.bounds.upload_pixels, clock)
            self._closing = opened.pop_all()
        self.metrics = Metrics(self.jobs)
        self.broken: str | None = None
        """Why nothing can be drawn any more."""
        self.on_broken: Callable[[], None] = lambda: None
        self.dispatcher = Dispatcher(self.jobs, self.data, self.feeds, self.metrics, workers, self._broken)
        self.draining, self._ended = False, Event()
        self._sweeper = Thread(target=self._sweep_now_and_then, daemon=True, name="sweeper")

    def start(self) -> None:
        """Clear away what a killed server left, and begin to draw."""
        self.data.sweep_jobs(self.jobs.ids())
        self.data.sweep_uploads(self.uploads.ids())
        self.dispatcher.start()
        self._sweeper.start()

    def drain(self) -> None:
        """Accept no further jobs."""
        self.draining = True

    def close(self) -> None:
        """Let running jobs end, and end; what waits is drawn when the server starts again."""
        self.drain()
        self.dispatcher.stop(self.settings.drain_seconds)
        self._ended.set()
        self._sweeper.join()
        self._closing.close()

    def _broken(self, why: str) -> None:
        self.broken = why
        self.on_broken()

    # --- jobs ---

    def accept(self, new: NewJob, key: ApiKey) -> StoredJob:
        """Keep a job whose files lie in its folder; if it is refused, or was accepted before, they go.

        Raises:
            ApiError: the server is full or about to end, or the idempotency key belongs to another request.
        """
        try:
            job = self._accepted(new, key)
        except ApiError as error:
            self.metrics.refused.labels(reason=error.code).inc()
            self.data.drop_job(new.id)
            raise
        if job.id != new.id:
            self.data.drop_job(new.id)
            return job
        self.metrics.accepted.labels(kind=new.kind).inc()
        self.dispatcher.wake()
        return job

    def repeated(self, key: ApiKey, repeat_key: str | None, digest: str) -> StoredJob | None:
        """The job that an earlier request with an idempotency key made.

        Raises:
            ApiError: that was another request.
        """
        try:
            return None if repeat_key is None else self.jobs.repeated(key.name, repeat_key, digest)
        except KeyReusedError as reused:
            raise ApiError(409, str(reused), code="idempotency_key_reused") from None

    def _accepted(self, new: NewJob, key: ApiKey) -> StoredJob:
        if self.draining:
            said = "the server is about to restart: try again in a moment"
            raise ApiError(503, said, code="restarting", retry_after=_RETRY)
        try:
            return self.jobs.accept(new, key.queue)
        except QueueFullError as full:
            raise ApiError(429, f"{full}: try again later", code="queue_full", retry_after=self._room_in()) from None
        except KeyReusedError as reused:
            raise ApiError(409, str(reused), code="idempotency_key_reused") from None

    def _room_in(self) -> float:
        """Seconds until a place in the queue is likely to be free: as long as the running jobs still take."""
        running = [self.feeds.last_step(job) for job in self.dispatcher.running]
        left = [step["seconds_left"] for step in running if step and step["seconds_left"]]
        return max(1.0, math.ceil(min(left))) if left else _RETRY

    def find(self, job: str, key: ApiKey, kind: str | None = None) -> StoredJob:
        """A job of a key.

        Raises:
            ApiError: there is none.
        """
        found = self.jobs.find(job, key.name)
        if found is None or (kind is not None and found.kind != kind):
            hours = f"{self.settings.keep_hours:g}"
            what = kind if kind == "story" else "job"
            raise ApiError(404, f"there is no {what} {job!r}: results are kept for {hours} hours", code="not_found")
        return found

    # --- the end of results ---

    def sweep(self) -> None:
        """Remove results and uploads that have expired."""
        before = self._clock() - self.settings.keep_hours * 3600
        for job in self.jobs.ended_before(before):
            self.jobs.forget(job)
            self.data.drop_job(job)
        for upload in self.uploads.before(before):
            self.uploads.drop(upload)

    def _sweep_now_and_then(self) -> None:
        while not self._ended.wait(_SWEEP):
            self.sweep()
