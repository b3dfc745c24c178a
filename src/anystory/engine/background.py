"""Work beside the main thread. Nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

__all__ = ["in_background"]

_T = TypeVar("_T")


def in_background(work: Callable[[], _T]) -> Future[_T]:
    """Start work in a thread of its own, and return what its result, or its error, can be had from.

    The thread ends with the program: to stop the program you need not wait for it, as you would for a pool's. The work
    must import nothing: two threads that import modules which import each other can get half of one.
    """
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # the caller of result() gets it
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future
