"""What runs in a worker's process: a model is loaded once, then tasks come and messages go through a pipe."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue

from anystory.files import only_writer
from anystory.serving.work.control import Control
from anystory.serving.work.messages import WorkerSetup, WorkerTask

__all__ = ["CANCEL", "DREW", "PAUSE", "RUN", "run_worker"]

RUN, CANCEL, PAUSE = "run", "cancel", "pause"
"""What a worker is told, with the tasks, the job's id, or None."""
DREW = "drew"
"""What it tells when it has drawn all of what it was given."""
_PATIENCE = 60.0
"""Seconds to wait for the worker of a server that was killed: it ends as soon as it notices."""


def run_worker(connection: Connection, setup: WorkerSetup) -> None:
    """Load a model, tell so, and draw until the pipe is closed. What is told: `Ready`, or a text that says why not."""
    for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C reaches the whole group: the server decides
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stdout = sys.stderr  # libraries print; standard output is the server's
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the server has ended
        _serve(connection, setup)


def _serve(connection: Connection, setup: WorkerSetup) -> None:
    from anystory.serving.work.drawer import Drawer

    try:
        lock = only_writer(setup.locks, setup.name, wait=_PATIENCE)
        lock.__enter__()  # until the process ends: two workers must never draw the same job
        drawer = Drawer(setup)
    except (ValueError, OSError) as error:
        connection.send(str(error))
        return
    connection.send(drawer.ready)
    control, given = Control(), SimpleQueue[list[WorkerTask]]()
    threading.Thread(target=_listen, args=(connection, control, given), daemon=True).start()
    while tasks := given.get():
        drawer.draw(tasks, connection.send, control)
        control.clear()
        connection.send(DREW)


def _listen(connection: Connection, control: Control, given: SimpleQueue[list[WorkerTask]]) -> None:
    """Take what the server says, also while something is drawn."""
    with suppress(EOFError, OSError):
        while True:
            what, value = connection.recv()
            if what == RUN:
                given.put(value)
            elif what == CANCEL:
                control.cancel(value)
            else:
                control.pause()
    given.put([])


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in a child only"
    parent.join()
    os._exit(1)  # at once: what it draws would be drawn again by the next server
