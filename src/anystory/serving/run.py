"""The server as a program: HTTP by uvicorn, a worker process for each device, and an orderly end."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace
from types import FrameType

import uvicorn

from anystory.engine.backends.registry import backend_of
from anystory.engine.screening import check_watermark
from anystory.serving.app import create_app
from anystory.serving.guards import LOOPBACK
from anystory.serving.keys import KeyRing
from anystory.serving.service import Service
from anystory.serving.settings import ServerSettings
from anystory.serving.store.data_folder import DataFolder
from anystory.serving.work.messages import WorkerSetup
from anystory.serving.work.worker import DrawingWorker, ProcessWorker

__all__ = ["local_workers", "serve", "worker_setup"]

_LAST_WORDS = 10
"""Seconds that answers may take after the workers have ended."""


def local_workers(settings: ServerSettings) -> list[DrawingWorker]:
    """A process for each device of the settings."""
    return [ProcessWorker(worker_setup(settings, device)) for device in settings.devices]


def worker_setup(settings: ServerSettings, device: str) -> WorkerSetup:
    """What the worker of a device needs."""
    return WorkerSetup(
        model=replace(settings.model, device=device),
        batch=settings.batch,
        metadata=settings.metadata,
        safety_checker=settings.safety_checker,
        watermark=settings.watermark,
        locks=DataFolder(settings.data).worker_locks,
        name=device.replace(":", "-"),
    )


def serve(settings: ServerSettings, keys: KeyRing, host: str, port: int, workers: Sequence[DrawingWorker]) -> None:
    """Run a server until it is told to end: SIGTERM and SIGINT let running jobs end first.

    Args:
        settings: How it is run.
        keys: Who may use it; none for a server that this machine only can reach.
        host: A name or address of this machine.
        port: 0 for a free one.
        workers: What draws, such as `local_workers`.

    Raises:
        ValueError: without keys a host that others can reach, a model that cannot be loaded, a folder in use.
        OSError: the port is taken.
    """
    if host not in LOOPBACK and not keys:
        raise ValueError(
            f"{host} can be reached from other machines: give --keys FILE (`--new-key NAME` adds to one), or take"
            " --host 127.0.0.1"
        )
    if settings.watermark:
        check_watermark()
    backend_of(settings.model.model).check(settings.model)
    listening = _listen(host, port)
    service = Service(settings, keys, workers)
    address = listening.getsockname()
    print(f"listening on http://{f'[{host}]' if ':' in host else host}:{address[1]}", flush=True)
    server = _Server(service)
    service.on_broken = server.end
    server.run(sockets=[listening])
    if service.broken is not None:
        raise ValueError(service.broken)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(1024)  # from here on whoever comes waits instead of being refused
    except OSError as error:
        listening.close()
        raise OSError(error.errno, f"{error.strerror} (choose another --port)", f"{host}:{port}") from None
    return listening


class _Server(uvicorn.Server):
    """uvicorn, which tells the service first when it is to end."""

    def __init__(self, service: Service) -> None:
        config = uvicorn.Config(
            create_app(service),
            log_level="warning",
            timeout_graceful_shutdown=int(service.settings.drain_seconds) + _LAST_WORDS,
            server_header=False,
            h11_max_incomplete_event_size=64 * 1024,
        )
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM or SIGINT: accept nothing more; a second one waits for no answer. The exit code is 0."""
        self.force_exit = self.should_exit
        self.end()

    def end(self) -> None:
        """End as if told to."""
        self._service.drain()
        self.should_exit = True
