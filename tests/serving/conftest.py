"""A store in a folder of its own, a tiny model's server, and pictures to send."""

from __future__ import annotations

import io
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import uvicorn
from PIL import Image

from anystory.engine.cancelling import CancelToken
from anystory.engine.options import ModelOptions
from anystory.serving.app import create_app
from anystory.serving.keys import KeyRing
from anystory.serving.run import worker_setup
from anystory.serving.service import Service
from anystory.serving.settings import ServerSettings
from anystory.serving.store.data_folder import DataFolder
from anystory.serving.store.database import Database
from anystory.serving.store.job import ENDED
from anystory.serving.store.jobs import JobStore
from anystory.serving.work.control import Control
from anystory.serving.work.drawer import Drawer
from anystory.serving.work.messages import Message, Ready, WorkerSetup, WorkerTask
from anystory.serving.work.worker import WorkerRefused
from cli.conftest import give_references
from pipelines import helpers


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory: SQLite flushes after every change."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


@pytest.fixture
def data(place: Path) -> DataFolder:
    return DataFolder(place)


@pytest.fixture
def database(data: DataFolder) -> Iterator[Database]:
    opened = Database(data.database)
    yield opened
    opened.close()


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database)


def png(width: int = 32, height: int = 32, colour: tuple[int, ...] = (200, 40, 40), form: str = "PNG") -> bytes:
    """An encoded picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB" if len(colour) == 3 else "RGBA", (width, height), colour).save(buffer, form)
    return buffer.getvalue()


class InlineWorker:
    """A worker in this process: the same drawing, without the seconds that a process of its own takes to begin."""

    def __init__(self, setup: WorkerSetup) -> None:
        self.name = setup.name
        self._setup, self._control = setup, Control()
        self._drawer: Drawer | None = None

    @property
    def alive(self) -> bool:
        return self._drawer is not None

    def start(self) -> Ready:
        try:
            self._drawer = Drawer(self._setup)
        except (ValueError, OSError) as error:
            raise WorkerRefused(str(error)) from None
        return self._drawer.ready

    def run(self, tasks: Sequence[WorkerTask], tell: Callable[[Message], None]) -> None:
        assert self._drawer is not None
        self._drawer.draw(tasks, tell, self._control)
        self._control.clear()

    def cancel(self, job: str) -> None:
        self._control.cancel(job)

    def pause(self) -> None:
        self._control.pause()

    def stop(self) -> None:
        self._drawer = None


@dataclass
class LiveServer:
    """A server that listens on this machine."""

    url: str
    service: Service
    http: httpx.Client

    def upload(self, content: bytes, key: str = "") -> str:
        """Send a picture; its id."""
        answer = self.http.post("/v1/uploads", files={"file": ("a.png", content)}, headers=bearer(key))
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def ended(self, job: str, key: str = "") -> dict[str, Any]:
        """A job when it has ended."""
        for _ in range(600):
            found = self.http.get(f"/v1/jobs/{job}", headers=bearer(key)).json()
            if found["state"] in ENDED:
                return found
            time.sleep(0.05)
        raise AssertionError(found)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def events(answer: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    """Server-sent events as they come: kind and data."""
    kind = ""
    for line in answer.iter_lines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield kind, json.loads(line.removeprefix("data: "))


@contextmanager
def running(service: Service) -> Iterator[LiveServer]:
    """Let a server listen while the block runs."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(service), log_level="warning"))
    thread = Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with httpx.Client(base_url=url, timeout=60) as http:
        while not server.started:
            time.sleep(0.02)
        try:
            yield LiveServer(url, service, http)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pipeline of the embedded model's layout, as a folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    helpers.pipeline("mini", default_call={"num_inference_steps": 3, "guidance_scale": 4.0}).save_pretrained(folder)
    return folder


def settings_for(place: Path, model: Path, **changes: Any) -> ServerSettings:
    options = ModelOptions(model=str(model), threads=1)
    return ServerSettings(**{"data": place, "model": options, "devices": ("cpu",), "drain_seconds": 5.0} | changes)


@pytest.fixture(scope="session")
def live(tiny_model: Path) -> Iterator[LiveServer]:
    """A server with the tiny model and no keys."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        settings = settings_for(Path(name), tiny_model)
        service = Service(settings, KeyRing(), [InlineWorker(worker_setup(settings, "cpu"))])
        with running(service) as server:
            while service.dispatcher.ready is None:
                time.sleep(0.05)
            yield server


@pytest.fixture
def slow_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two steps of the worker in this process passes a while: a long job is long on a fast machine as well."""
    check = CancelToken.check

    def check_later(self: CancelToken) -> None:
        time.sleep(0.05)
        check(self)

    monkeypatch.setattr(CancelToken, "check", check_later)


@pytest.fixture(scope="session")
def references(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return give_references(tmp_path_factory.mktemp("given"))
