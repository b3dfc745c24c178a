"""Whose turn it is: keys share the devices evenly, by pictures, however many jobs each has waiting."""

from __future__ import annotations

from collections.abc import Sequence

from anystory.serving.store.job import StoredJob

__all__ = ["Turns"]


class Turns:
    """Start-time fair queueing (Goyal, Vin and Cheng, 1996): the owner comes next who has had the least so far.

    What an owner had before it waited for nothing does not count: nobody saves up turns, nobody owes any.
    """

    def __init__(self) -> None:
        self._had: dict[str, float] = {}
        self._now = 0.0

    def choose(self, jobs: Sequence[StoredJob]) -> StoredJob:
        """The next of some jobs, at least one; of equals the one that was accepted first."""
        return min(jobs, key=lambda job: (self._start(job), job.number))

    def served(self, job: StoredJob) -> None:
        """A job is being drawn: it was its owner's turn."""
        self._now = self._start(job)
        self.charge(job)
        self._had = {owner: had for owner, had in self._had.items() if had > self._now}

    def charge(self, job: StoredJob) -> None:
        """A job is being drawn, on its owner's turn or on somebody else's."""
        self._had[job.owner] = self._start(job) + job.cost

    def _start(self, job: StoredJob) -> float:
        return max(self._had.get(job.owner, 0.0), self._now)
