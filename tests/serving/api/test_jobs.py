"""Jobs from outside: state, progress as server-sent events, results, cancelling."""

from __future__ import annotations

import base64
import io
import json
import re
from typing import Any

import pytest
from PIL import Image

from ..conftest import LiveServer, events

LATER = {"Prefer": "respond-async"}


def begin(live: LiveServer, **given: Any) -> str:
    answer = live.http.post("/v1/images/generations", json={"prompt": "f"} | given, headers=LATER)
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    return answer.json()["id"]


def test_the_events_of_a_job(live):
    job = begin(live, steps=30, n=2, seed=1)
    with live.http.stream("GET", f"/v1/jobs/{job}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = list(events(answer))
    assert told[0][0] == "job"
    assert told[-1] == ("job", {"state": "done"})
    steps = [data for kind, data in told if kind == "step"]
    assert [step["done"] for step in steps] == sorted(step["done"] for step in steps)
    assert steps[-1]["done"] == 1
    assert {step["pictures"] for step in steps} == {2}
    assert any(step["seconds_left"] for step in steps)
    assert [data["picture"] for kind, data in told if kind == "picture"] == [1, 2]
    previews = [data for kind, data in told if kind == "preview"]
    assert Image.open(io.BytesIO(base64.b64decode(previews[0]["b64_json"]))).size == (32, 32)
    with live.http.stream("GET", f"/v1/jobs/{job}/events") as answer:
        assert list(events(answer)) == [("job", {"state": "done"})]


def test_a_job_that_is_done(live):
    found = live.ended(begin(live, n=2, seed=8))
    assert (found["state"], found["kind"], found["object"]) == ("done", "picture", "job")
    assert found["expires"] == pytest.approx(found["finished"] + 24 * 3600)
    assert [picture["seed"] for picture in found["pictures"]] == [8, 9]
    picture = found["pictures"][0]
    assert {"owners", "sheet"}.isdisjoint(picture)
    assert Image.open(io.BytesIO(live.http.get(picture["url"]).content)).format == "PNG"
    jpeg = live.http.get(picture["url"], params={"format": "jpeg"})
    assert Image.open(io.BytesIO(jpeg.content)).format == "JPEG"
    record = live.http.get(picture["record"]).json()
    assert (record["seed"], record["prompt"]) == (8, "f")
    assert str(live.service.data.root) not in json.dumps(record)
    assert live.http.get("/v1/jobs", params={"limit": 1}).json()[0]["id"] == found["id"]
    for path in ("pictures/0", "pictures/3", "pictures/1/sheet", "pictures/1/owners"):
        assert live.http.get(f"/v1/jobs/{found['id']}/{path}").status_code == 404
    assert live.http.get(f"/v1/jobs/{found['id']}/pictures/1/given").status_code == 400


@pytest.mark.usefixtures("slow_steps")
def test_cancelled_while_it_waits_and_while_it_runs(live):
    running, waiting = begin(live, steps=100, n=5), begin(live)
    assert live.http.delete(f"/v1/jobs/{waiting}").json()["state"] == "cancelled"
    with live.http.stream("GET", f"/v1/jobs/{running}/events") as answer:
        seen = events(answer)
        assert any(kind == "step" for kind, _ in seen)
        assert live.http.get(f"/v1/jobs/{running}").json()["progress"]["steps"] == 100
        live.http.delete(f"/v1/jobs/{running}")
        assert list(seen)[-1] == ("job", {"state": "cancelled"})
    assert live.http.delete(f"/v1/jobs/{running}").json()["state"] == "cancelled"
    assert live.http.get(f"/v1/jobs/{running}/pictures/1").status_code == 404


@pytest.mark.slow
def test_one_of_several_that_are_drawn_together_is_cancelled(live):
    slow = begin(live, steps=20)
    first, second = (begin(live, steps=30, prompt=prompt) for prompt in ("f", "r"))
    assert live.ended(slow)["state"] == "done"
    with live.http.stream("GET", f"/v1/jobs/{second}/events") as answer:
        assert any(kind == "step" for kind, _ in events(answer))
        live.http.delete(f"/v1/jobs/{second}")
    assert live.ended(second)["state"] == "cancelled"
    assert live.ended(first)["state"] == "done"


@pytest.mark.parametrize("job", ["job_0", "..", "%2e%2e%2fserver.sqlite", "a" * 5000])
def test_no_such_job(live, job):
    answer = live.http.get(f"/v1/jobs/{job}/pictures/1")
    assert answer.status_code == 404
    assert "message" in answer.json()["error"]


def test_health_and_metrics(live):
    assert live.http.get("/healthz").json()["status"] == "ok"
    ready = live.http.get("/readyz").json()
    assert (ready["status"], ready["size_multiple"], ready["native_size"]) == ("ready", 8, 32)
    live.ended(begin(live))
    text = live.http.get("/metrics").text
    for line in (
        'anystory_jobs_accepted_total{kind="picture"}', 'anystory_jobs_ended_total{kind="picture",state="done"}',
        "anystory_jobs_queued 0.0", "anystory_workers_ready 1.0", "anystory_job_run_seconds_bucket",
        'route="/v1/jobs/{job}"',
    ):  # fmt: skip
        assert line in text


def test_the_description_has_examples(live):
    described = live.http.get("/openapi.json").json()
    for path in ("images/generations", "images/edits", "segment", "characters", "stories"):
        assert f"/v1/{path}" in described["paths"]
    schemas = described["components"]["schemas"]
    for name in ("ImageRequest", "SegmentRequest", "StoryRequest", "JobAnswer"):
        assert schemas[name]["examples"]
    assert schemas["ErrorAnswer"]
    named = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(described)))
    assert named <= schemas.keys()
    assert "multipart/form-data" in described["paths"]["/v1/segment"]["post"]["requestBody"]["content"]
