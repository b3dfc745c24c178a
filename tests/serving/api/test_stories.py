"""Stories over HTTP: sent, drawn panel by panel, fetched as a book."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from anystory.serving.store.job import NewJob

from ..conftest import LiveServer
from .test_jobs import events


def story(**changes: Any) -> dict[str, Any]:
    """Two panels of somebody whose picture is given."""
    whole = {
        "title": "The Fox",
        "size": "32x32",
        "steps": 2,
        "cast": {"mara": {"looks": "f", "photos": ["UPLOAD"]}},
        "panels": [{"prompt": "mara r", "dialogue": [{"mara": "Hello!"}]}, {"prompt": "r"}],
    }
    return whole | changes


def with_upload(value: Any, upload: str) -> Any:
    return json.loads(json.dumps(value).replace("UPLOAD", upload))


@pytest.mark.slow
def test_a_story_from_a_request_to_a_book(live: LiveServer, references: Path):
    red = live.upload((references / "red.png").read_bytes())
    body = {"story": with_upload(story(), red)}
    answer = live.http.post("/v1/stories", json=body, headers={"Idempotency-Key": "story"})
    assert answer.status_code == 202, answer.text
    sent = answer.json()
    assert (sent["title"], len(sent["panels"])) == ("The Fox", 2)
    assert live.http.post("/v1/stories", json=body, headers={"Idempotency-Key": "story"}).json()["id"] == sent["id"]
    with live.http.stream("GET", f"/v1/stories/{sent['id']}/events") as told:
        found = list(events(told))
    assert [data["picture"] for kind, data in found if kind == "picture"] in ([1, 2], [2], [])
    assert found[-1] == ("job", {"state": "done"})
    done = live.http.get(f"/v1/stories/{sent['id']}").json()
    assert [panel["drawn"] for panel in done["panels"]] == [True, True]
    assert Image.open(io.BytesIO(live.http.get(done["panels"][0]["url"]).content)).size == (32, 32)
    assert live.http.get(f"/v1/stories/{sent['id']}/panels/3").status_code == 404
    page = live.http.get(done["exports"]["html"])
    assert page.status_code == 200, page.text
    assert "Hello!" in page.text
    assert str(live.service.data.root) not in page.text
    with zipfile.ZipFile(io.BytesIO(live.http.get(done["exports"]["png"]).content)) as pages:
        assert all(name.endswith(".png") for name in pages.namelist())
    assert live.http.get(f"/v1/stories/{sent['id']}/export/exe").status_code == 400
    assert live.http.get("/v1/stories").json()[0]["id"] == sent["id"]


def test_a_story_with_a_character_of_the_library(live, references):
    red = live.upload((references / "red.png").read_bytes())
    assert (
        live.http.post("/v1/characters", json={"name": "Lena", "uploads": [red], "description": "f"}).status_code == 201
    )
    body = {"story": story(cast={"lena": {"library": "@lena"}}, panels=[{"prompt": "lena r"}])}
    sent = live.http.post("/v1/stories", json=body).json()
    assert live.http.delete("/v1/characters/lena").status_code == 204
    assert live.ended(sent["id"])["state"] == "done"


@pytest.mark.slow
def test_a_long_story_makes_room_and_is_continued(live):
    body = {"story": story(cast={}, steps=8, panels=[{"prompt": "f"}] * 4)}
    book = live.http.post("/v1/stories", json=body).json()["id"]
    jobs = live.service.jobs
    with live.http.stream("GET", f"/v1/stories/{book}/events") as told:
        seen = events(told)
        assert any(kind == "step" for kind, _ in seen)
        mine = live.http.post("/v1/images/generations", json={"prompt": "f"}, headers={"Prefer": "respond-async"})
        of_another = NewJob(owner="bob", kind="picture", work=jobs.get(mine.json()["id"]).work)
        jobs.accept(of_another)
        live.service.dispatcher.wake()
    assert live.ended(book)["state"] == "done"
    assert (jobs.get(of_another.id).finished or 0) < (jobs.get(book).finished or 0)
    assert jobs.get(of_another.id).state == "done"


@pytest.mark.usefixtures("slow_steps")
def test_a_story_is_cancelled_between_steps(live):
    body = {"story": story(cast={}, steps=100, panels=[{"prompt": "f"}] * 4)}
    book = live.http.post("/v1/stories", json=body).json()["id"]
    with live.http.stream("GET", f"/v1/stories/{book}/events") as told:
        assert any(kind == "step" for kind, _ in events(told))
        assert live.http.delete(f"/v1/stories/{book}").status_code == 200
    assert live.ended(book)["state"] == "cancelled"
    assert live.http.get(f"/v1/stories/{book}/export/pdf").status_code == 409


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"panels": []}, "panels"),
        ({"title": None}, "title"),
        ({"surprise": 1}, "there is no entry `surprise`"),
        ({"cast": {"m": {"looks": "f", "photos": ["/etc/passwd"]}}}, "no upload '/etc/passwd'"),
        ({"cast": {"m": {"looks": "f", "photos": ["../../server.sqlite"]}}}, "no upload"),
        ({"cast": {"m": {"looks": "f", "photos": [{"image": "upl_1", "mask": "/etc/passwd"}]}}}, "no upload"),
        ({"cast": {"m": {"looks": "f", "variants": {"w": {"photos": ["/etc/passwd"]}}}}}, "no upload"),
        ({"cast": {"m": {"looks": "f", "segmenter": "hub/model"}}}, "segmenter must be one of"),
        ({"cast": {"m": {"library": "@nobody"}}}, "no character 'nobody'"),
        ({"places": {"p": {"prompt": "r", "picture": "https://example.org/a.png"}}}, "no upload"),
        ({"panels": [{"prompt": "f", "place": "moon"}]}, "there is no place 'moon'"),
        ({"panels": [{"prompt": "f"}] * 65}, "panels must be at most 64"),
        ({"steps": 101}, "steps must be at most 100"),
        ({"size": "9000x9000"}, "size must be at most"),
        ({"panels": [{"prompt": "f" * 4001}]}, "prompt must be at most 4,000"),
    ],
)
def test_bad_stories(live, changes, message):
    def kept() -> tuple[set[str], set[str]]:
        return {path.name for path in (live.service.data.root / "jobs").iterdir()}, set(live.service.jobs.ids())

    before = kept()
    answer = live.http.post("/v1/stories", json={"story": story(cast={}) | changes})
    assert answer.status_code in (400, 404), answer.text
    assert message in answer.json()["error"]["message"], answer.text
    assert str(live.service.data.root) not in answer.text
    assert kept() == before
