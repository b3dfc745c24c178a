"""The drawing process from outside: tasks wait in a line, each with what it has told so far. It may die."""

from __future__ import annotations

import multiprocessing
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from anystory.studio.told import told
from anystory.studio.worker.events import (
    Failure,
    Finished,
    Loading,
    PanelKept,
    PictureKept,
    SamplingProgress,
    Searching,
    SubjectsFound,
    WorkerEvent,
)
from anystory.studio.worker.process import CANCEL, serve_tasks
from anystory.studio.worker.tasks import Task

if TYPE_CHECKING:
    from anystory.story.positions import Problem

__all__ = ["DrawingProcess", "Ticket"]

State: TypeAlias = Literal["waiting", "loading", "drawing", "looking", "done", "cancelled", "failed", "crashed"]


@dataclass(eq=False)
class Ticket:
    """A task, where it stands, and what it has told."""

    task: Task
    on_event: Callable[[WorkerEvent], None] = lambda event: None
    """Called in the worker's thread, for what is to be kept."""
    state: State = "waiting"
    progress: SamplingProgress | None = None
    """The last step."""
    preview: bytes | None = None
    """The last one that there was."""
    kept: int = 0
    """Pictures, or folders of masks, that are on disk."""
    version: int = 0
    """Raised whenever something has changed."""
    message: str = ""
    option: str | None = None
    """Of a failure."""
    words: tuple[str, ...] = ()
    """Those that the model does not know."""
    problems: tuple[Problem, ...] = ()
    """Of a story."""

    @property
    def open(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("waiting", "loading", "drawing", "looking")

    def take(self, event: WorkerEvent) -> None:
        """Note what was told."""
        if isinstance(event, Loading):
            self.state = "loading"
        elif isinstance(event, Searching):
            self.state = "looking"
        elif isinstance(event, SamplingProgress):
            self.state = self.state if self.state == "looking" else "drawing"
            self.progress = event
            self.preview = event.preview or self.preview
        elif isinstance(event, (PictureKept, PanelKept, SubjectsFound)):
            self.preview = None
            self.kept += 1
        elif isinstance(event, Finished):
            self.state, self.words, self.problems = "done", event.words, event.problems
        else:
            states: dict[str, State] = {"cancelled": "cancelled", "crash": "crashed"}
            self.state = states.get(event.kind, "failed")
            self.message, self.option, self.problems = event.message, event.option, event.problems
        self.version += 1


class DrawingProcess:
    """One process that draws; it starts with the first task, and anew after it has died.

    Tasks of all who ask stand in one line. Methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._line: deque[Ticket] = deque()
        self._running: Ticket | None = None
        self._changed = threading.Condition()
        self._connection: Any = None
        self._process: Any = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, daemon=True, name="studio-worker")
        self._thread.start()

    def submit(self, task: Task, on_event: Callable[[WorkerEvent], None] = lambda event: None) -> Ticket:
        """Put a task into the line."""
        ticket = Ticket(task, on_event)
        with self._changed:
            self._line.append(ticket)
            self._changed.notify()
        return ticket

    def ahead(self, ticket: Ticket) -> int:
        """How many tasks come before one that waits."""
        with self._changed:
            running = 1 if self._running is not None else 0
            return list(self._line).index(ticket) + running if ticket in self._line else 0

    def cancel(self, ticket: Ticket) -> None:
        """End a task: at once if it waits, after the sampling step or the look in progress if it runs."""
        with self._changed:
            if ticket in self._line:
                self._line.remove(ticket)
                ticket.take(Failure(message="", kind="cancelled"))
            elif ticket is self._running:
                with suppress(OSError):
                    self._connection.send(CANCEL)

    @property
    def pid(self) -> int | None:
        """The process's number; None while there is none."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """End the process now, and what it does."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            if self._process is not None:
                self._process.terminate()
        self._thread.join(timeout=10)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._line or self._closed)
                if self._closed:
                    return
                ticket = self._running = self._line.popleft()
                self._start()
            try:
                self._attend(ticket)
            finally:
                with self._changed:
                    self._running = None

    def _start(self) -> None:
        """Start the process if there is none that lives."""
        if self._process is not None and self._process.is_alive():
            return
        spawn = multiprocessing.get_context("spawn")  # a fork would copy the locks of libraries' threads
        self._connection, theirs = spawn.Pipe()
        self._process = spawn.Process(target=serve_tasks, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()  # the process's own end is the only one: when it dies, the pipe ends

    def _attend(self, ticket: Ticket) -> None:
        """Send a task, and take what it tells until it ends."""
        ticket.take(Loading(model=""))
        lost = ""
        try:
            self._connection.send(ticket.task)
            while ticket.open:
                event = self._connection.recv()
                lost = lost or _listened(ticket, event)
                ticket.take(Failure(message=lost) if lost and isinstance(event, Finished) else event)
        except (EOFError, OSError):
            self._process.join(timeout=10)
            ticket.take(Failure(message="", kind="crash"))


def _listened(ticket: Ticket, event: WorkerEvent) -> str:
    """Let a listener keep what was told; why it could not, or ""."""
    try:
        ticket.on_event(event)
    except (OSError, ValueError) as error:
        return told(error)[0]
    return ""
