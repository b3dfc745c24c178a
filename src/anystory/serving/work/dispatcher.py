"""Hands jobs to the workers, one thread for each, and keeps what becomes of them."""

from __future__ import annotations

import base64
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from threading import Condition, Thread
from time import monotonic

from anystory.serving.feeds import FeedEvent, Feeds
from anystory.serving.metrics import Metrics
from anystory.serving.store.data_folder import DataFolder
from anystory.serving.store.job import StoredJob
from anystory.serving.store.jobs import JobStore
from anystory.serving.work.messages import Done, Failed, JobProgress, Message, PictureStored, Ready, Stopped, WorkerTask
from anystory.serving.work.worker import DrawingWorker, WorkerLost, WorkerRefused

__all__ = ["Dispatcher"]

_LOOK = 1.0
"""Seconds after which an idle thread looks whether its worker is alive."""
_MOST_DELAY = 60.0
"""Seconds between two tries to start a worker that dies as it loads."""


class Dispatcher:
    """Runs jobs on workers.

    Args:
        jobs: Where they come from, and where their ends are kept.
        data: Where their files lie.
        feeds: Hears of everything.
        metrics: Counts.
        workers: One for each device.
        on_broken: Called with a sentence if no worker can go on: its model cannot be loaded, the disk is full.
    """

    def __init__(
        self,
        jobs: JobStore,
        data: DataFolder,
        feeds: Feeds,
        metrics: Metrics,
        workers: Sequence[DrawingWorker],
        on_broken: Callable[[str], None] = lambda why: None,
    ) -> None:
        self._jobs, self._data, self._feeds, self._metrics = jobs, data, feeds, metrics
        self._workers, self._on_broken = workers, on_broken
        self._changed, self._closing = Condition(), False
        self._running = dict[str, DrawingWorker]()
        self._ready = dict[str, Ready]()
        self._threads = [
            Thread(target=self._serve, args=(worker,), daemon=True, name=f"dispatcher {worker.name}")
            for worker in workers
        ]

    def start(self) -> None:
        """Put back what was running when the server ended, and start the workers."""
        self._jobs.recover()
        for thread in self._threads:
            thread.start()

    @property
    def ready(self) -> Ready | None:
        """What the workers' model is made for; None before one has loaded it."""
        return next(iter(dict(self._ready).values()), None)

    @property
    def running(self) -> list[str]:
        """The jobs that are being drawn."""
        with self._changed:
            return list(self._running)

    def wake(self) -> None:
        """A job has come: an idle worker takes it, and a long job of somebody else makes room at its next pause."""
        with self._changed:
            self._changed.notify_all()
            running = dict(self._running)
        for job, worker in running.items():
            if (found := self._jobs.find(job)) and found.kind == "story" and self._jobs.others_wait(found.owner):
                worker.pause()

    def cancel(self, job: str) -> StoredJob:
        """End a job now if it waits, or after the sampling step in progress."""
        found = self._jobs.ask_cancel(job)
        with self._changed:
            worker = self._running.get(job)
        if worker is not None:
            worker.cancel(job)
        elif found.ended:
            self._tell_state(found)
        return found

    def stop(self, seconds: float) -> None:
        """Take no further jobs, give the running ones some time to end, then end the workers.

        What does not end in time waits in the store, to be drawn when the server starts again.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        until = monotonic() + seconds
        for worker in self._workers:
            worker.pause()
        for thread in self._threads:
            thread.join(max(0.0, until - monotonic()))
        for worker in self._workers:
            worker.stop()
        for thread in self._threads:
            thread.join()

    # --- the thread of a worker ---

    def _serve(self, worker: DrawingWorker) -> None:
        delay = _LOOK
        try:
            while not self._closing:
                if self._serve_once(worker):
                    delay = _LOOK
                    continue
                self._metrics.workers_lost.labels(device=worker.name).inc()
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, delay)
                delay = min(2 * delay, _MOST_DELAY)
        except WorkerRefused as refused:
            self._on_broken(str(refused))
        except Exception as error:  # a full disk, a bug: the next start of the server continues what was running
            traceback.print_exc()
            self._on_broken(f"{type(error).__name__}: {error}")
        self._set_ready(worker, None)

    def _serve_once(self, worker: DrawingWorker) -> bool:
        """Load the model if need be, and draw the next jobs; False if the worker has died."""
        try:
            if not worker.alive:
                self._set_ready(worker, None)
                self._set_ready(worker, worker.start())
            self._run(worker, self._next(worker))
        except WorkerLost:
            return self._closing
        return True

    def _set_ready(self, worker: DrawingWorker, ready: Ready | None) -> None:
        if ready is None:
            self._ready.pop(worker.name, None)
        else:
            self._ready[worker.name] = ready
        self._metrics.workers_ready.set(len(self._ready))

    def _next(self, worker: DrawingWorker) -> list[StoredJob]:
        """The next jobs; none if the worker has died or the server ends."""
        with self._changed:
            while worker.alive and not self._closing:
                if taken := self._jobs.take(self._ready[worker.name].batch):
                    self._running |= {job.id: worker for job in taken}
                    return taken
                self._changed.wait(_LOOK)
        return []

    def _run(self, worker: DrawingWorker, jobs: list[StoredJob]) -> None:
        if not jobs:
            return
        for job in jobs:
            self._metrics.waited.observe(max(0.0, (job.started or job.created) - job.created))
            self._tell_state(job)
        try:
            tasks = [
                WorkerTask(job=job.id, kind=job.kind, work=job.work, folder=self._data.job(job.id)) for job in jobs
            ]
            for job in jobs:
                if self._jobs.get(job.id).cancel:  # asked for before it was known where it runs
                    worker.cancel(job.id)
            if jobs[0].kind == "story" and self._jobs.others_wait(jobs[0].owner):
                worker.pause()
            worker.run(tasks, self._heard)
        except WorkerLost as lost:
            self._lost(jobs, str(lost))
            raise
        finally:
            with self._changed:
                for job in jobs:
                    self._running.pop(job.id, None)

    def _lost(self, jobs: list[StoredJob], why: str) -> None:
        """The worker died: what it had not ended is tried once more, or has failed; if the server ends, it waits."""
        for job in jobs:
            if self._jobs.get(job.id).state == "running":
                self._ended(self._jobs.put_back(job.id) if self._closing else self._jobs.crashed(job.id, why))

    def _heard(self, message: Message) -> None:
        if isinstance(message, JobProgress):
            self._heard_step(message)
        elif isinstance(message, PictureStored):
            self._metrics.pictures.inc()
            self._metrics.together.observe(message.together)
            self._feeds.tell(message.job, FeedEvent("picture", _without_job(message)))
        elif isinstance(message, Done):
            self._ended(self._jobs.finish(message.job, message.result))
        elif isinstance(message, Failed):
            self._ended(self._jobs.fail(message.job, message.kind, message.message))
        elif isinstance(message, Stopped):
            paused = message.paused
            self._ended(self._jobs.put_back(message.job) if paused else self._jobs.cancelled(message.job))

    def _heard_step(self, step: JobProgress) -> None:
        data = _without_job(step)
        preview = data.pop("preview")
        self._feeds.tell(step.job, FeedEvent("step", data))
        if preview is not None:
            shown = {"picture": step.picture, "step": step.step, "b64_json": base64.b64encode(preview).decode()}
            self._feeds.tell(step.job, FeedEvent("preview", shown))

    def _ended(self, job: StoredJob) -> None:
        if job.ended:
            self._metrics.ended.labels(kind=job.kind, state=job.state).inc()
            if job.started is not None and job.finished is not None:
                self._metrics.took.labels(kind=job.kind).observe(max(0.0, job.finished - job.started))
        self._tell_state(job)

    def _tell_state(self, job: StoredJob) -> None:
        self._feeds.tell(job.id, FeedEvent("job", {"state": job.state}))


def _without_job(message: JobProgress | PictureStored) -> dict:
    return {name: value for name, value in asdict(message).items() if name != "job"}
