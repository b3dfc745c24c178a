"""The jobs that were accepted, and what became of them. What is accepted is never lost, and finished once.

queued → running → done | failed | cancelled
           ↓ the server or the worker ended
         queued
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from anystory.serving.store.database import Database
from anystory.serving.store.job import ENDED, NewJob, StoredJob
from anystory.serving.store.turns import Turns

__all__ = ["JobStore", "KeyReusedError", "QueueFullError"]

TRIES = 2
"""How often a job is drawn if the worker dies meanwhile."""


class QueueFullError(RuntimeError):
    """No further job is accepted now."""


class KeyReusedError(ValueError):
    """An idempotency key came again with another request."""


class JobStore:
    """All jobs. Any thread may use it.

    Args:
        database: Where they are kept.
        most: Jobs that may wait or run at the same time.
        clock: Seconds since 1970.
    """

    def __init__(self, database: Database, most: int = 100, clock: Callable[[], float] = time.time) -> None:
        self._database, self._most, self._clock = database, most, clock
        self._turns = Turns()

    # --- accepting and looking ---

    def accept(self, new: NewJob, most_of_owner: int | None = None) -> StoredJob:
        """Keep a job; when this returns it will be done. A repeated request gives the job that it made before.

        Args:
            new: The job.
            most_of_owner: How many of its owner's jobs may wait or run at the same time.

        Raises:
            QueueFullError: too many wait.
            KeyReusedError: the idempotency key belongs to another request.
        """
        with self._database.transaction():
            if new.repeat_key is not None and (known := self.repeated(new.owner, new.repeat_key, new.digest)):
                return known
            [[everybody, mine]] = self._database.execute(
                "SELECT COUNT(*), COALESCE(SUM(owner = ?), 0) FROM jobs WHERE state IN ('queued', 'running')",
                (new.owner,),
            )
            if everybody >= self._most:
                raise QueueFullError(f"{everybody} jobs are waiting, the most that this server takes")
            if most_of_owner is not None and mine >= most_of_owner:
                raise QueueFullError(f"{mine} jobs of this key are waiting, the most that it may have")
            self._database.execute(
                "INSERT INTO jobs (id, owner, kind, work, alike, cost, state, created, repeat_key, digest)"
                " VALUES (?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?)",
                (
                    *(new.id, new.owner, new.kind, json.dumps(new.work), new.alike, new.cost),
                    *(self._clock(), new.repeat_key, new.digest),
                ),
            )
        return self.get(new.id)

    def repeated(self, owner: str, repeat_key: str, digest: str | None) -> StoredJob | None:
        """The job that an earlier request with this idempotency key made.

        Raises:
            KeyReusedError: that was another request.
        """
        found = self._select("owner = ? AND repeat_key = ?", (owner, repeat_key))
        if found and found[0].digest != digest:
            raise KeyReusedError(
                f"the idempotency key {repeat_key!r} belongs to another request: give each request a key of its own"
            )
        return found[0] if found else None

    def find(self, job: str, owner: str | None = None) -> StoredJob | None:
        """A job by its id; with an owner only if it is theirs."""
        found = self._select("id = ? AND (? IS NULL OR owner = ?)", (job, owner, owner))
        return found[0] if found else None

    def get(self, job: str) -> StoredJob:
        """A job that is there.

        Raises:
            KeyError: it is not.
        """
        if (found := self.find(job)) is None:
            raise KeyError(job)
        return found

    def of_owner(self, owner: str, most: int = 50, kind: str | None = None) -> list[StoredJob]:
        """An owner's jobs, the newest first."""
        return self._select(
            "owner = ? AND (? IS NULL OR kind = ?) ORDER BY number DESC LIMIT ?", (owner, kind, kind, most)
        )

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        rows = self._database.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state")
        return dict(rows)

    def others_wait(self, owner: str) -> bool:
        """Whether somebody else has a job that waits."""
        found = self._database.execute("SELECT 1 FROM jobs WHERE state = 'queued' AND owner != ? LIMIT 1", (owner,))
        return bool(found)

    def _select(self, where: str, values: Sequence[Any] = ()) -> list[StoredJob]:
        return [StoredJob.of(row) for row in self._database.execute(f"SELECT * FROM jobs WHERE {where}", values)]

    # --- the way of a job ---

    def take(self, most: int = 1) -> list[StoredJob]:
        """The next job, by turns between owners, and further ones that may be drawn together with it; all are running.

        Args:
            most: Pictures that are drawn together. A job over which a worker has died comes alone.
        """
        with self._database.transaction():
            waiting = self._select(
                "number IN (SELECT MIN(number) FROM jobs WHERE state = 'queued' GROUP BY owner) ORDER BY number"
            )
            if not waiting:
                return []
            first = self._turns.choose(waiting)
            self._turns.served(first)
            chosen = [first, *self._companions(first, most - first.cost)]
            for job in chosen:
                self._database.execute(
                    "UPDATE jobs SET state = 'running', started = ? WHERE id = ?", (self._clock(), job.id)
                )
        return [self.get(job.id) for job in chosen]

    def _companions(self, first: StoredJob, room: int) -> list[StoredJob]:
        """Jobs that may be drawn together with the first one, by turns, as many as there is room for."""
        if first.alike is None or first.crashes or room < 1:
            return []
        found = self._select(
            "state = 'queued' AND alike = ? AND crashes = 0 AND id != ? ORDER BY number LIMIT 100",
            (first.alike, first.id),
        )
        chosen = []
        while found:
            job = self._turns.choose(found)
            found.remove(job)
            if job.cost <= room:
                self._turns.charge(job)
                chosen.append(job)
                room -= job.cost
        return chosen

    def finish(self, job: str, result: dict[str, Any]) -> StoredJob:
        """A running job is done."""
        return self._end(job, "done", result=result)

    def fail(self, job: str, kind: str, message: str) -> StoredJob:
        """A running job cannot be done.

        Args:
            job: Its id.
            kind: "invalid_request" for what the request asks for, "content_policy" for what the safety checker
                withholds, "server_error" for the rest.
            message: A sentence.
        """
        return self._end(job, "failed", error={"type": kind, "message": message})

    def cancelled(self, job: str) -> StoredJob:
        """A running job has ended because somebody asked for that."""
        return self._end(job, "cancelled")

    def _end(self, job: str, state: str, **values: Any) -> StoredJob:
        result, error = (
            None if (given := values.get(name)) is None else json.dumps(given) for name in ("result", "error")
        )
        self._database.execute(
            "UPDATE jobs SET state = ?, finished = ?, result = ?, error = ? WHERE id = ? AND state = 'running'",
            (state, self._clock(), result, error, job),
        )
        return self.get(job)

    def ask_cancel(self, job: str) -> StoredJob:
        """Ask for a job's end: one that waits ends now, one that runs when the worker has heard of it."""
        with self._database.transaction():
            self._database.execute(
                "UPDATE jobs SET state = 'cancelled', cancel = 1, finished = ? WHERE id = ? AND state = 'queued'",
                (self._clock(), job),
            )
            self._database.execute("UPDATE jobs SET cancel = 1 WHERE id = ? AND state = 'running'", (job,))
        return self.get(job)

    def put_back(self, job: str) -> StoredJob:
        """A running job is to be continued later, unless somebody has asked for its end."""
        with self._database.transaction():
            if self.get(job).cancel:
                return self._end(job, "cancelled")
            self._database.execute("UPDATE jobs SET state = 'queued' WHERE id = ? AND state = 'running'", (job,))
        return self.get(job)

    def crashed(self, job: str, why: str) -> StoredJob:
        """The worker died over a running job: it is tried once more, then it fails."""
        with self._database.transaction():
            self._database.execute("UPDATE jobs SET crashes = crashes + 1 WHERE id = ? AND state = 'running'", (job,))
            if self.get(job).crashes >= TRIES:
                return self.fail(job, "server_error", f"{why}, {TRIES} times over this job: it is not tried again")
            return self.put_back(job)

    def recover(self) -> list[StoredJob]:
        """Put back what was running when the server ended. Call it once, before anything is taken."""
        running = self._select("state = 'running' ORDER BY number")
        return [self.put_back(job.id) for job in running]

    # --- the end of results ---

    def forget(self, job: str) -> None:
        """Remove an ended job's entry; its files go after it."""
        self._database.execute(f"DELETE FROM jobs WHERE id = ? AND state IN {ENDED}", (job,))

    def ended_before(self, moment: float) -> list[str]:
        """The ids of jobs that ended before a moment."""
        rows = self._database.execute(f"SELECT id FROM jobs WHERE state IN {ENDED} AND finished < ?", (moment,))
        return [row["id"] for row in rows]

    def ids(self) -> set[str]:
        """The ids of all jobs."""
        return {row["id"] for row in self._database.execute("SELECT id FROM jobs")}
