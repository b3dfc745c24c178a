"""Candidates drawn by several processes on this machine, each with a model of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from anystory.engine.cancelling import CancelToken
from anystory.engine.drawing import checked_backend, load
from anystory.engine.encodings import Encodings
from anystory.engine.events import Pace, StepDone
from anystory.engine.options import ModelOptions
from anystory.process_pool import ProcessPool
from anystory.startup import import_libraries
from anystory.story.book_folder import PanelCandidate
from anystory.story.runner.drawing import PanelDrawn, RenderEvent, draw_tasks
from anystory.story.runner.tasks import PanelTask

__all__ = ["Pool", "TaskDrawer", "devices", "draw_in_parallel", "process_pool"]


class Pool(AbstractContextManager[Any], Protocol):
    """Runs tasks elsewhere; see `process_pool.ProcessPool`."""

    @property
    def idle(self) -> bool:
        """Whether `submit` can be called."""
        ...

    def submit(self, task: PanelTask) -> Future[Any]:
        """Give a task to somebody."""
        ...

    def wait(self) -> list[Future[Any]]:
        """Wait for something to happen; the futures of tasks that have ended."""
        ...


class TaskDrawer:
    """Draws one candidate after the other, with a model that it loads.

    Args:
        book, sheet: See `draw_tasks`.
        options: Which model, and how it is run.
    """

    def __init__(self, book: Path, options: ModelOptions, sheet: bool) -> None:
        import_libraries(checked_backend(options).modules)
        self._book, self._sheet = book, sheet
        self._model, self._encodings = load(options), Encodings()

    def __call__(self, task: PanelTask) -> PanelCandidate:
        """Draw and write a candidate."""
        [drawn] = draw_tasks(self._book, [task], self._model, self._encodings, sheet=self._sheet)
        return drawn


def devices(device: str, jobs: int, gpus: int) -> list[str]:
    """The device of each of several processes: `cuda` means all GPUs in turn, `cuda:1` that one alone.

    Args:
        device: What was asked for.
        jobs: Number of processes.
        gpus: Number of CUDA GPUs of this machine.
    """
    if device != "cuda" or gpus < 2:
        return [device] * jobs
    return [f"cuda:{number % gpus}" for number in range(jobs)]


def process_pool(book: Path, options: ModelOptions, jobs: int, *, sheet: bool) -> Pool:
    """Processes of one thread each that draw into a book, on all GPUs if the device is `cuda`.

    Args:
        book, sheet: See `draw_tasks`.
        options: Which model each process loads.
        jobs: Number of processes, ≥ 1.
    """
    own = [replace(options, device=device) for device in devices(options.device, jobs, _gpus(options.device))]
    return ProcessPool([partial(TaskDrawer, book, one, sheet) for one in own], jobs)


def _gpus(device: str) -> int:
    if device != "cuda":
        return 0
    import torch

    return torch.cuda.device_count()


def draw_in_parallel(
    tasks: Sequence[PanelTask],
    pool: Pool,
    *,
    keep: Callable[[PanelTask, Any], PanelCandidate],
    on_event: Callable[[RenderEvent], None] = lambda event: None,
    cancel: CancelToken | None = None,
) -> list[PanelCandidate]:
    """Draw candidates with several processes or machines: the same pictures as with one.

    Args:
        tasks: What to draw.
        pool: Who draws; it is closed at the end.
        keep: Makes the candidate of a task and of what the pool has returned for it.
        on_event: Called after each candidate: a step of all tasks, then what was drawn.
        cancel: Looked at after each candidate.

    Raises:
        WorkerDied, ValueError, FloatingPointError, OSError: a candidate that could not be drawn; those in progress are
            finished first.
        Cancelled: `cancel` was set.
    """
    token, pace = cancel or CancelToken(), Pace()
    waiting, running = list(tasks), dict[Future[Any], PanelTask]()
    drawn: list[PanelCandidate] = []
    failed: BaseException | None = None
    with pool:
        while running or (waiting and failed is None):
            token.check()
            while waiting and pool.idle and failed is None:
                task = waiting.pop(0)
                running[pool.submit(task)] = task
            for future in pool.wait():
                task = running.pop(future)
                failed = failed or future.exception()
                if future.exception() is not None:
                    continue
                drawn.append(keep(task, future.result()))
                left = pace.seconds_left(len(tasks) - len(drawn))
                on_event(StepDone(picture=len(drawn), pictures=len(tasks), step=1, steps=1, seconds_left=left))
                on_event(PanelDrawn(task=task, done=len(drawn), count=len(tasks), candidate=drawn[-1]))
    if failed is not None:
        raise failed
    return drawn
