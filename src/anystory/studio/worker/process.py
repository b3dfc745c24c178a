"""The drawing process from inside: one task after the other, with the model of the last one kept."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from anystory.engine.cancelling import Cancelled, CancelToken
from anystory.engine.options import ModelOptions
from anystory.studio.told import told
from anystory.studio.worker.events import Failure, Finished, Loading, WorkerEvent
from anystory.studio.worker.tasks import Task

if TYPE_CHECKING:
    from anystory.engine.backends.base import Model

__all__ = ["CANCEL", "serve_tasks"]

CANCEL = "cancel"
"""What the parent sends to end the task in progress."""


def serve_tasks(connection: Connection) -> None:
    """Do tasks until the parent is gone; the main function of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides
    desk = _Desk(connection.send)
    tasks: queue.Queue[Task] = queue.Queue()
    threading.Thread(target=_receive, args=(connection, tasks, desk), daemon=True).start()
    while True:
        connection.send(_outcome(tasks.get(), desk))


def _receive(connection: Connection, tasks: queue.Queue[Task], desk: _Desk) -> None:
    """Take what the parent sends, while the main thread draws."""
    try:
        while True:
            message = connection.recv()
            if message == CANCEL:
                desk.token.cancel()
            else:
                desk.token = CancelToken()  # here: a cancel may follow before the main thread has taken the task
                tasks.put(message)
    except (EOFError, OSError):
        os._exit(0)  # the parent is gone: nobody waits for the result
    except BaseException:  # a task that cannot be read here: the parent learns of it as of a crash
        traceback.print_exc(file=sys.stderr)
        os._exit(1)


def _outcome(task: Task, desk: _Desk) -> Finished | Failure:
    try:
        return task.run(desk)
    except Cancelled:
        return Failure(message="", kind="cancelled")
    except Exception as error:
        message, option = told(error)
        if not message:
            traceback.print_exc(file=sys.stderr)
            message = f"{type(error).__name__}: {error}"
        return Failure(message=message, option=option, problems=getattr(error, "problems", ()))


class _Desk:
    """See `tasks.Desk`; keeps the last model."""

    def __init__(self, send: Callable[[WorkerEvent], None]) -> None:
        self.send = send
        self.token = CancelToken()
        self._loaded: tuple[ModelOptions, Model] | None = None

    def model(self, options: ModelOptions) -> Model:
        """See `tasks.Desk.model`; another model takes the place of the last one."""
        if self._loaded is not None and self._loaded[0] == options:
            return self._loaded[1]
        self._loaded = None
        self.send(Loading(model=options.model))
        from anystory.engine.drawing import checked_backend, load
        from anystory.startup import import_libraries

        import_libraries(checked_backend(options).modules)
        model = load(options)
        self._loaded = (options, model)
        return model
