"""A studio with a tiny model and a small cast, without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from anystory.cast import Library
from anystory.engine.cancelling import CancelToken
from anystory.engine.options import ModelOptions
from anystory.studio.app import build_api
from anystory.studio.session import Session
from anystory.studio.settings import StudioSettings
from anystory.studio.worker.events import WorkerEvent
from anystory.version import ASSETS

DEMO = ASSETS / "demo"


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """Mara the fox, who has a winter look, and Bo the robot."""
    library = Library(tmp_path / "cast")
    library.add("Mara", [DEMO / "fox.png"], description="a fox", colour="#e4572e", aliases=["Marie"])
    library.add_variant("Mara", "winter", [DEMO / "bear.png"], description="a white fox")
    library.add("Bo", [DEMO / "robot.png"], description="a robot", colour="#2e86ab")
    return library


@pytest.fixture
def settings(tmp_path: Path, library: Library, tiny: Path) -> StudioSettings:
    """A studio's settings."""
    return StudioSettings(
        out=tmp_path / "out", library=library.folder, options=ModelOptions(model=str(tiny), threads=1)
    )


@pytest.fixture
def session(settings: StudioSettings) -> Session:
    """A browser's session."""
    return Session(settings.out / "session", settings)


class Browser(TestClient):
    """Asks a studio as its page does, with a cookie of its own."""

    def ask(self, action: str, *, status: int = 200, **payload: Any) -> Any:
        """The answer to an action."""
        answer = self.post(f"/api/{action}", json=payload, headers={"x-studio-language": "en"})
        assert answer.status_code == status, answer.text
        return answer.json()

    def give(self, path: Path) -> str:
        """Upload a file."""
        answer = self.post(
            f"/api/upload?name={path.name}", content=path.read_bytes(), headers={"x-studio-language": "en"}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["upload"]


@pytest.fixture
def browser(settings: StudioSettings) -> Iterator[Browser]:
    """A browser at a studio."""
    with Browser(build_api(settings), base_url="http://127.0.0.1") as client:
        yield client


class Desk:
    """What a task has in the drawing process, here in the test's own."""

    def __init__(self) -> None:
        self.token = CancelToken()
        self.told: list[WorkerEvent] = []
        self._models: dict[ModelOptions, Any] = {}

    def send(self, event: WorkerEvent) -> None:
        """Keep what is told."""
        self.told.append(event)

    def model(self, options: ModelOptions) -> Any:
        """Load a model once."""
        from anystory.engine.drawing import load

        if options not in self._models:
            self._models[options] = load(options)
        return self._models[options]


@pytest.fixture(scope="session")
def shared_models() -> dict[ModelOptions, Any]:
    """Models that are loaded once for all tests of a process."""
    return {}


@pytest.fixture
def desk(shared_models: dict[ModelOptions, Any]) -> Desk:
    """A desk whose models are shared."""
    made = Desk()
    made._models = shared_models
    return made
