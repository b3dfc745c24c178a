"""Workers on the machines of a Ray cluster, by Ray Serve: the same drawing in replicas instead of processes.

    ray start --head                                       # on the machine of the server; the others join it
    anystory serve --ray 4 --data /shared/anystory …        # four replicas, wherever Ray puts them

Jobs stay in the server's store, and their files in the server's folder, which every machine must have under the same
path. A replica that is lost, with its machine or alone, costs a job a second try, as a process does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from anystory.extras import need
from anystory.serving.work.control import Control
from anystory.serving.work.drawer import Drawer
from anystory.serving.work.messages import JobProgress, Message, Ready, WorkerSetup, WorkerTask
from anystory.serving.work.worker import DrawingWorker, WorkerLost, WorkerRefused

__all__ = ["RayWorker", "ray_workers"]

_APP = "anystory"
_CANCEL, _PAUSE = ".cancel", ".pause"
"""Files in a job's folder: what is told to whoever draws it, wherever that is."""
_PATIENCE = 600.0
"""Seconds for a replica to load its model."""


class RayDrawer:
    """The inside of a replica."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._drawer = Drawer(setup)

    def ready(self) -> Ready:
        """See `Drawer.ready`."""
        return self._drawer.ready

    async def draw(self, tasks: Sequence[WorkerTask]) -> AsyncIterator[Message]:
        """Draw tasks, and tell what happens, until each is done, failed or stopped."""
        loop, told = asyncio.get_running_loop(), asyncio.Queue[Message | BaseException | None]()
        control, folders = Control(), {task.job: task.folder for task in tasks}

        def tell(message: Message) -> None:
            if isinstance(message, JobProgress):
                _look(folders, control)
            loop.call_soon_threadsafe(told.put_nowait, message)

        def draw() -> None:
            end: BaseException | None = None
            try:
                _look(folders, control)
                self._drawer.draw(tasks, tell, control)
            except BaseException as error:  # the caller gets it
                end = error
            loop.call_soon_threadsafe(told.put_nowait, end)

        Thread(target=draw, daemon=True).start()
        while (message := await told.get()) is not None:
            if isinstance(message, BaseException):
                raise message
            yield message


def _look(folders: dict[str, Path], control: Control) -> None:
    """Pass on what the server has left in the jobs' folders."""
    for job, folder in folders.items():
        if (folder / _CANCEL).exists():
            control.cancel(job)
        if (folder / _PAUSE).exists():
            control.pause()


class RayWorker:
    """See `DrawingWorker`: one replica's worth of a Ray Serve deployment, whichever replica that is.

    Args:
        name: For messages and metrics.
        deploy: Makes sure that the deployment runs, and gives its handle.
    """

    def __init__(self, name: str, deploy: Callable[[], Any]) -> None:
        self.name, self._deploy = name, deploy
        self._handle: Any = None
        self._folders: dict[str, Path] = {}

    @property
    def alive(self) -> bool:
        """See `DrawingWorker.alive`."""
        return self._handle is not None

    def start(self) -> Ready:
        """See `DrawingWorker.start`."""
        try:
            handle = self._deploy()
            ready = handle.ready.remote().result(timeout_s=_PATIENCE)
        except Exception as error:  # Ray's errors have many classes; those of the model lie inside
            if (why := _refusal(error)) is not None:
                raise WorkerRefused(why) from None
            raise WorkerLost(f"Ray has no replica: {error}") from error
        self._handle = handle
        return ready

    def run(self, tasks: Sequence[WorkerTask], tell: Callable[[Message], None]) -> None:
        """See `DrawingWorker.run`."""
        self._folders = {task.job: task.folder for task in tasks}
        for folder in self._folders.values():
            folder.mkdir(parents=True, exist_ok=True)  # of a job without pictures there is none yet
            (folder / _PAUSE).unlink(missing_ok=True)
        try:
            for message in self._handle.options(stream=True).draw.remote(list(tasks)):
                tell(message)
        except Exception as error:  # the replica or its machine is gone, or it has a bug
            self._handle = None
            raise WorkerLost(f"the replica that drew it ended ({type(error).__name__})") from error
        finally:
            self._folders = {}

    def cancel(self, job: str) -> None:
        """See `DrawingWorker.cancel`."""
        self._leave(_CANCEL, job)

    def pause(self) -> None:
        """See `DrawingWorker.pause`."""
        for job in dict(self._folders):
            self._leave(_PAUSE, job)

    def _leave(self, name: str, job: str) -> None:
        if (folder := self._folders.get(job)) is not None:
            with suppress(OSError):  # its job has ended, and is forgotten
                (folder / name).touch()

    def stop(self) -> None:
        """See `DrawingWorker.stop`."""
        self._handle = None


def ray_workers(setup: WorkerSetup, replicas: int, *, cpus: float = 1, gpus: float = 0) -> list[DrawingWorker]:
    """Workers on a Ray cluster, joined or made on this machine.

    Args:
        setup: What each replica needs.
        replicas: How many; each draws for one of the workers at a time.
        cpus, gpus: What Ray gives each.

    Raises:
        ValueError: Ray Serve is not installed.
    """
    serve = need("ray.serve", "--ray", extra="ray")
    deployment = serve.deployment(
        num_replicas=replicas,
        max_ongoing_requests=1,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        health_check_period_s=2,
        health_check_timeout_s=10,
    )(RayDrawer)
    deployed, lock = list[Any](), Lock()

    def deploy() -> Any:
        with lock:  # each worker asks, in a thread of its own
            if not deployed:
                serve.start(proxy_location="Disabled")  # nobody but this server asks: no port is opened for it
                deployed.append(serve.run(deployment.bind(setup), name=_APP, route_prefix=None))
            return deployed[0]

    return [RayWorker(f"ray-{number}", deploy) for number in range(1, replicas + 1)]


def _refusal(error: BaseException | None) -> str | None:
    """The sentence of a model that cannot be loaded, if that is what lies inside an error."""
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, (ValueError, OSError)) and not isinstance(error, TimeoutError):
            return str(error)
        error, seen = error.__cause__ or getattr(error, "cause", None), seen + 1
    return None
