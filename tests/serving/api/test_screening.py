"""A server whose pictures are checked, or marked, before anybody sees them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import openai
import pytest
from PIL import Image

from anystory.engine.drawing import draw, load
from anystory.engine.job import Job
from anystory.engine.options import ModelOptions
from anystory.engine.screening import Screening
from anystory.serving.keys import KeyRing
from anystory.serving.run import worker_setup
from anystory.serving.service import Service
from anystory.serving.work.control import Control
from anystory.serving.work.messages import Done, Failed, Message, PictureStored, WorkerTask
from anystory.serving.work.stories import STORY, StoryWorker
from anystory.serving.work.worker import WorkerRefused
from safety_checkers import matching_bits, write_safety_checker

from ..conftest import InlineWorker, LiveServer, running, settings_for
from .test_jobs import events

LATER = {"Prefer": "respond-async"}
WITHHELD = "the safety checker withholds this picture: change the prompt, or take another seed"


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return load(ModelOptions(model=str(tiny_model), threads=1))


@pytest.fixture(scope="module")
def checker(model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It withholds the picture of the prompt "f" and seed 1."""
    [bad] = draw(model, Job(prompt="f"), [1])
    return write_safety_checker(tmp_path_factory.mktemp("checker"), bad.image)


@pytest.fixture(scope="module")
def checked(tiny_model: Path, checker: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    settings = settings_for(tmp_path_factory.mktemp("checked"), tiny_model, safety_checker=str(checker))
    with running(Service(settings, KeyRing(), [InlineWorker(worker_setup(settings, "cpu"))])) as server:
        yield server


def test_a_picture_is_withheld_as_openais_clients_expect_it(checked):
    client = openai.OpenAI(base_url=f"{checked.url}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.BadRequestError, match=WITHHELD) as told:
        client.images.generate(prompt="f", extra_body={"seed": 1})
    assert told.value.code == "content_policy_violation"
    [job] = checked.http.get("/v1/jobs").json()
    assert (job["state"], job["error"]["type"], job["pictures"]) == ("failed", "content_policy", [])
    assert not list(checked.service.data.job(job["id"]).rglob("*.png")), "nothing of it is kept"
    shown = client.images.generate(prompt="f", extra_body={"seed": 2}).data
    assert shown is not None
    assert shown[0].b64_json


def test_no_preview_is_shown_before_the_check(checked):
    body = {"prompt": "f", "seed": 1, "stream": True, "partial_images": 3}
    with checked.http.stream("POST", "/v1/images/generations", json=body) as answer:
        assert [kind for kind, _ in events(answer)] == ["error"]
    good = checked.http.post("/v1/images/generations", json={"prompt": "f", "seed": 3}, headers=LATER).json()["id"]
    with checked.http.stream("GET", f"/v1/jobs/{good}/events") as answer:
        assert "preview" not in {kind for kind, _ in events(answer)}


def test_others_drawn_in_the_same_call_are_kept(checked):
    slow = checked.http.post("/v1/images/generations", json={"prompt": "r", "steps": 40}, headers=LATER).json()["id"]
    jobs = [
        checked.http.post("/v1/images/generations", json={"prompt": "f", "seed": seed}, headers=LATER).json()["id"]
        for seed in (1, 2, 3)
    ]
    assert checked.ended(slow)["state"] == "done"
    assert [checked.ended(job)["state"] for job in jobs] == ["failed", "done", "done"]
    for job in jobs[1:]:
        record = checked.http.get(f"/v1/jobs/{job}/pictures/1/record").json()
        assert record["together"] == 3, "not drawn once more because of the first"


def test_a_story_ends_before_a_panel_that_is_withheld(model, checker, tmp_path):
    panels = [{"prompt": "f", "seed": 2}, {"prompt": "f", "seed": 1}]
    (tmp_path / STORY).write_text(json.dumps({"title": "Two", "steps": 3, "panels": panels}))
    task = WorkerTask(job="a", kind="story", work={"best_of": 1}, folder=tmp_path)
    ends = {}
    for screening in (Screening(str(checker)), Screening()):
        told = list[Message]()
        StoryWorker(model=model, screening=screening, tell=told.append, control=Control()).draw(task)
        ends[screening.checks] = told[-1]
        assert len([one for one in told if isinstance(one, PictureStored)]) == 1
    assert ends[True] == Failed(job="a", kind="content_policy", message=WITHHELD)
    assert isinstance(ends[False], Done), "nothing else was wrong with it"


def test_a_folder_that_is_no_checker_ends_the_server(tiny_model, place):
    settings = settings_for(place, tiny_model, safety_checker=str(tiny_model))
    with pytest.raises(WorkerRefused, match=str(tiny_model)):
        InlineWorker(worker_setup(settings, "cpu")).start()


def test_pictures_that_are_too_small_for_the_watermark_are_refused_before_they_are_drawn(tiny_model, place):
    """The server has no worker, and the watermark's package may be missing."""
    with running(Service(settings_for(place, tiny_model, watermark=True), KeyRing(), [])) as server:
        answer = server.http.post("/v1/images/generations", json={"prompt": "f", "size": "512x248"}, headers=LATER)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, "size")
        assert "watermark needs 256 pixels on each side, got 512x248" in error["message"]
        large = server.http.post("/v1/images/generations", json={"prompt": "f", "size": "512x256"}, headers=LATER)
        assert large.status_code == 202


@pytest.mark.skipif(find_spec("imwatermark") is None, reason="invisible-watermark is not installed")
def test_a_marked_picture_carries_the_mark(tiny_model, place):
    settings = settings_for(place, tiny_model, watermark=True)
    with running(Service(settings, KeyRing(), [InlineWorker(worker_setup(settings, "cpu"))])) as server:
        body = {"prompt": "f", "size": "512x512", "steps": 1}
        answer = server.http.post("/v1/images/generations", json=body).json()
        small = server.http.post("/v1/images/generations", json={"prompt": "f"})
    assert "got 32x32" in small.json()["error"]["message"]
    image = Image.open(io.BytesIO(base64.b64decode(answer["data"][0]["b64_json"])))
    assert matching_bits(image) > 0.8
