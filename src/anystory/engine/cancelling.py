"""Ending a job early: a token that anybody may set, and that drawing looks at between steps."""

from __future__ import annotations

from threading import Event

__all__ = ["CancelToken", "Cancelled"]


class Cancelled(Exception):
    """The job was cancelled. Nothing of the picture in progress is written; the model is ready for the next job."""


class CancelToken:
    """Tells a job to end. Any thread may set it, and several jobs may share one."""

    def __init__(self) -> None:
        self._event = Event()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._event.is_set()

    def cancel(self) -> None:
        """End the jobs that have this token, after the sampling step in progress."""
        self._event.set()

    def check(self) -> None:
        """Raise Cancelled if `cancel` was called."""
        if self.cancelled:
            raise Cancelled("the job was cancelled")
