"""Who may use the server, and how much: keys, bounds, a full queue, an end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from anystory.serving import guards
from anystory.serving.keys import ApiKey, KeyRing, RequestPace, add_key
from anystory.serving.service import Service
from anystory.serving.settings import Bounds

from ..conftest import LiveServer, bearer, png, running, settings_for

LATER = {"Prefer": "respond-async"}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A file of keys, and those of ann and bob."""
    path = tmp_path_factory.mktemp("keys") / "keys.yaml"
    return path, add_key(path, "ann"), add_key(path, "bob")


@pytest.fixture(scope="module")
def idle(tiny_model: Path, keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with keys and small bounds that draws nothing: it has no worker."""
    bounds = Bounds(body=200_000, upload_pixels=100_000, storage=3000)
    settings = settings_for(tmp_path_factory.mktemp("idle"), tiny_model, queue=6, bounds=bounds)
    service = Service(settings, KeyRing.read(keys[0]), [])
    with running(service) as server:
        yield server


def ask(idle: LiveServer, key: str, **given) -> httpx.Response:
    headers = bearer(key) | LATER
    return idle.http.post("/v1/images/generations", json={"prompt": "f"} | given, headers=headers)


def test_only_hashes_are_kept(keys):
    path, ann, bob = keys
    assert ann.startswith("sk-anystory-")
    assert ann not in path.read_text()
    ring = KeyRing.read(path)
    assert [getattr(ring.find(key), "name", None) for key in (ann, bob, "x", "", None)] == [
        "ann",
        "bob",
        None,
        None,
        None,
    ]
    with pytest.raises(ValueError, match="two keys have the name 'ann'"):
        add_key(path, "ann")
    with pytest.raises(ValueError, match="small letters"):
        add_key(path, "../x")


@pytest.mark.parametrize("text", ["", "keys: []", "keys: 3", "- a", "keys: [{name: a}]", "keys: [", "a: b: c"])
def test_bad_files_of_keys(tmp_path, text):
    (tmp_path / "keys.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"keys.yaml .*--new-key NAME"):
        KeyRing.read(tmp_path / "keys.yaml")


@pytest.mark.parametrize("sent", [b"", b"Bearer x", b"Basic eDp5", b"\xff"])
def test_without_a_key_nothing_is_told(idle, sent):
    headers = {b"Authorization": sent} if sent else {}
    for method, path in (
        ("GET", "/v1/jobs"), ("POST", "/v1/images/generations"), ("POST", "/v1/uploads"), ("GET", "/v1/characters"),
        ("POST", "/v1/stories"), ("GET", "/metrics"), ("POST", "/v1/images/edits"),
    ):  # fmt: skip
        answer = idle.http.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key"), path
    assert idle.http.get("/healthz").status_code == 200


def test_keys_do_not_meet(idle, keys):
    _, ann, bob = keys
    job = ask(idle, ann).json()["id"]
    upload = idle.upload(png(), ann)
    for path in (f"/v1/jobs/{job}", f"/v1/jobs/{job}/events", f"/v1/uploads/{upload}"):
        assert idle.http.get(path, headers=bearer(bob)).status_code == 404
    assert idle.http.delete(f"/v1/jobs/{job}", headers=bearer(bob)).status_code == 404
    assert ask(idle, bob, subjects=[{"uploads": [upload]}]).status_code == 404
    assert idle.http.get("/v1/jobs", headers=bearer(bob)).json() == []
    assert idle.http.delete(f"/v1/jobs/{job}", headers=bearer(ann)).json()["state"] == "cancelled"
    assert idle.http.delete(f"/v1/uploads/{upload}", headers=bearer(ann)).status_code == 204


def test_a_full_queue_says_when_to_come_again(idle, keys):
    _, ann, bob = keys
    jobs = [ask(idle, ann).json()["id"] for _ in range(6)]
    full = ask(idle, bob)
    assert (full.status_code, full.json()["error"]["code"]) == (429, "queue_full")
    assert int(full.headers["retry-after"]) >= 1
    assert idle.http.get("/readyz").status_code == 503
    for job in jobs:
        idle.http.delete(f"/v1/jobs/{job}", headers=bearer(ann))
    assert ask(idle, bob).status_code == 202


def test_a_key_may_make_so_many_requests_in_a_minute():
    now = 0.0
    pace, key = RequestPace(lambda: now), ApiKey(name="a", sha256="0" * 64, per_minute=3)
    other = ApiKey(name="b", sha256="1" * 64, per_minute=3)
    assert [pace.wait(key) for _ in range(4)] == [0, 0, 0, 20]
    assert pace.wait(other) == 0
    now = 20.0
    assert [pace.wait(key), pace.wait(key) > 0] == [0, True]


def test_large_requests_are_refused_early_and_large_pictures_by_their_pixels(idle, keys):
    ann = keys[1]
    for body in ({"content": b"x" * 200_001}, {"content": iter([b"x" * 100_000] * 3)}):
        answer = idle.http.post("/v1/images/generations", headers=bearer(ann), **body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    files = {"file": ("a.png", png(400, 300))}
    answer = idle.http.post("/v1/uploads", files=files, headers=bearer(ann))
    assert (answer.status_code, "more than 100,000 pixels" in answer.text) == (400, True)


@pytest.mark.parametrize("says_how_many", [True, False])
@pytest.mark.parametrize("end", ["all of it", "gone", "endless"])
def test_what_still_comes_of_a_refused_request_is_read_after_the_answer(monkeypatch, says_how_many, end):
    """A connection that is closed on unread bytes is reset, and the client may never see why."""
    monkeypatch.setattr(guards, "_LINGER", 0.1)
    happened: list[str] = []
    chunks = iter([b"x" * 60] * 5)

    async def receive() -> Message:
        body = next(chunks, b"")
        happened.append("read")
        if not body and end == "endless":
            await asyncio.Event().wait()
        if not body and end == "gone":
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": body, "more_body": bool(body)}

    async def send(message: Message) -> None:
        happened.append(f"{message.get('status', message.get('body', b'').decode()[:10])}")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            pass

    headers = [(b"content-length", b"300")] if says_how_many else []
    asyncio.run(guards.LimitBody(app, 100)({"type": "http", "headers": headers}, receive, send))
    before = [] if says_how_many else ["read"] * 2
    assert happened == [*before, "413", '{"error":{', *["read"] * (6 - len(before)), ""]


def test_a_key_holds_so_many_bytes(idle, keys):
    ann = keys[1]
    kept = []
    for _ in range(100):
        answer = idle.http.post("/v1/uploads", files={"file": ("a.png", png())}, headers=bearer(ann))
        if answer.status_code != 201:
            break
        kept.append(answer.json()["id"])
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "storage_full")
    assert idle.service.uploads.held_by("ann") <= 3000
    for upload in kept:
        idle.http.delete(f"/v1/uploads/{upload}", headers=bearer(ann))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200), ({"Origin": "http://localhost:3000"}, 200), ({"Origin": "https://evil.example"}, 403),
        ({"Host": "evil.example"}, 403), ({"Origin": "null"}, 403), ({"Host": "[::1"}, 403),
    ],
)  # fmt: skip
def test_without_keys_no_web_page_gets_in(live, headers, status):
    assert live.http.get("/v1/jobs", headers=headers).status_code == status


def test_results_expire(tiny_model, tmp_path):
    now = time.time()
    service = Service(settings_for(tmp_path, tiny_model, keep_hours=1), KeyRing(), [], clock=lambda: now)
    with running(service) as server:
        upload = server.upload(png())
        job = ask(server, "", subjects=[{"uploads": [upload]}]).json()["id"]
        server.http.delete(f"/v1/jobs/{job}")
        now += 3500
        service.sweep()
        assert server.http.get(f"/v1/jobs/{job}").status_code == 200
        now += 200
        service.sweep()
        assert server.http.get(f"/v1/jobs/{job}").status_code == 404
        assert server.http.get(f"/v1/uploads/{upload}").status_code == 404
        assert [*(tmp_path / "jobs").iterdir(), *(tmp_path / "uploads").iterdir()] == []


def test_a_server_that_ends_takes_no_jobs_and_keeps_those_that_wait(tiny_model, tmp_path):
    service = Service(settings_for(tmp_path, tiny_model), KeyRing(), [])
    with running(service) as server:
        waiting = ask(server, "").json()["id"]
        with pytest.raises(ValueError, match="another program"):
            Service(settings_for(tmp_path, tiny_model), KeyRing(), [])
        service.drain()
        answer = ask(server, "")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "restarting")
        assert answer.headers["retry-after"] == "30"
        assert server.http.get("/readyz").status_code == 503
    again = Service(settings_for(tmp_path, tiny_model), KeyRing(), [])
    with running(again) as server:
        assert server.http.get(f"/v1/jobs/{waiting}").json()["state"] == "queued"
