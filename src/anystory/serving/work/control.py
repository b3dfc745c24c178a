"""How a worker hears of the end of a job while it draws. Nothing heavy is imported."""

from __future__ import annotations

from threading import Event, Lock

from anystory.engine.cancelling import CancelToken

__all__ = ["Control"]


class Control:
    """A token for each job, and the wish that a long job makes room. Any thread may use it."""

    def __init__(self) -> None:
        self._lock, self._tokens, self._pause = Lock(), dict[str, CancelToken](), Event()

    def token(self, job: str) -> CancelToken:
        """The token of a job; asked for first, it is the same whoever asks."""
        with self._lock:
            return self._tokens.setdefault(job, CancelToken())

    def cancel(self, job: str) -> None:
        """End a job after the sampling step in progress."""
        self.token(job).cancel()

    def pause(self) -> None:
        """Let a long job stop where it can be continued: others wait."""
        self._pause.set()

    @property
    def paused(self) -> bool:
        """Whether `pause` was called."""
        return self._pause.is_set()

    def clear(self) -> None:
        """Forget all of it: the next jobs begin."""
        with self._lock:
            self._tokens.clear()
            self._pause.clear()
