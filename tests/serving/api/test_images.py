"""OpenAI's Images API, by OpenAI's own client, against a server that listens."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import AsyncMock

import httpx
import numpy as np
import openai
import pytest
from fastapi import Request
from PIL import Image

from anystory.engine.drawing import draw, load
from anystory.engine.job import Job, SubjectFiles
from anystory.engine.options import ModelOptions
from anystory.engine.record.reading import load_record
from anystory.serving.api import images
from anystory.serving.api.schemas import ImageRequest

from ..conftest import LiveServer, png


@pytest.fixture(scope="module")
def client(live: LiveServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def model(tiny_model: Path):
    return load(ModelOptions(model=str(tiny_model), threads=1))


def pixels(text: str | None) -> np.ndarray:
    assert text is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))


def drawn(model, job: Job, seed: int) -> np.ndarray:
    [picture] = draw(model, job, [seed])
    return np.asarray(picture.image)


def test_the_picture_is_the_engines_and_holds_its_record(client, model, tmp_path):
    answer = client.images.generate(prompt="f r", size="32x24", extra_body={"seed": 5, "steps": 2})
    assert answer.size == "32x24"
    [picture] = answer.data
    expected = drawn(model, Job(prompt="f r", width=32, height=24, steps=2), 5)
    np.testing.assert_array_equal(pixels(picture.b64_json), expected)
    (tmp_path / "a.png").write_bytes(base64.b64decode(picture.b64_json))
    record = load_record(tmp_path / "a.png")
    assert (record.prompt, record.seed, record.steps, record.together) == ("f r", 5, 2, 1)
    assert "/" not in record.model.removeprefix("…/")


def test_several_pictures_in_one_call_are_those_of_several_calls(client, model):
    answer = client.images.generate(prompt="f", n=3, extra_body={"seed": 5})
    assert [picture.seed for picture in answer.data] == [5, 6, 7]
    for picture in answer.data:
        expected = drawn(model, Job(prompt="f"), picture.seed)
        assert np.abs(pixels(picture.b64_json).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_other_formats(client, form):
    answer = client.images.generate(prompt="f", output_format=form, output_compression=50)
    assert Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json))).format == form.upper()


def test_by_url(client, live):
    answer = client.images.generate(prompt="f", response_format="url", extra_body={"seed": 1})
    url = answer.data[0].url
    assert url.startswith(live.url)
    fetched = live.http.get(url)
    assert fetched.headers["content-type"] == "image/png"
    again = client.images.generate(prompt="f", extra_body={"seed": 1})
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(fetched.content))), pixels(again.data[0].b64_json))


def test_uploads_are_subjects_with_masks_regions_and_routing(client, live, model, references):
    ids = [live.upload((references / name).read_bytes()) for name in ("red.png", "blue.png", "blue-mask.png")]
    subjects = [
        {"uploads": ids[:1], "name": "red", "region": [0, 0, 0.5, 1]},
        {"uploads": ids[1:2], "masks": ids[2:], "scale": 0.5},
    ]
    answer = client.images.generate(prompt="f r", extra_body={"subjects": subjects, "seed": 4, "routing": True})
    files = (
        SubjectFiles(image=references / "red.png", name="red", settings={"region": (0, 0, 0.5, 1)}),
        SubjectFiles(image=references / "blue.png", mask=references / "blue-mask.png", settings={"scale": 0.5}),
    )
    [picture] = answer.data
    np.testing.assert_array_equal(pixels(picture.b64_json), drawn(model, Job(prompt="f r", subjects=files), 4))
    assert picture.subjects == ["red", "subject 2"]
    owners = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.routing["owners"]))))
    assert owners.shape == (32, 32)
    assert set(owners[:, :16].flat) <= {0, 1, 2}
    assert (owners[:, :16] == 1).any()
    assert not (owners[:, 20:] == 1).any()  # the layers' maps are coarser than the picture
    assert pixels(picture.routing["sheet"]).shape[0] > 32


def test_the_images_of_an_edit_are_references(client, model, references):
    with (references / "red.png").open("rb") as red, (references / "blue.png").open("rb") as blue:
        answer = client.images.edit(image=[red, blue], prompt="f r", extra_body={"seed": 4})
    files = tuple(SubjectFiles(image=references / name) for name in ("red.png", "blue.png"))
    expected = drawn(model, Job(prompt="f r", subjects=files), 4)
    np.testing.assert_array_equal(pixels(answer.data[0].b64_json), expected)
    assert answer.data[0].subjects == ["subject 1", "subject 2"]


def test_photos_of_one_subject_in_an_edit(client, model, references):
    with (references / "red.png").open("rb") as red, (references / "blue.png").open("rb") as blue:
        subjects = json.dumps([{"images": [0, 1], "name": "both"}])
        answer = client.images.edit(image=[red, blue], prompt="f", extra_body={"seed": 4, "subjects": subjects})
    assert answer.data[0].subjects == ["both"]


@pytest.mark.parametrize("kind", ["transparent where", "white where"])
def test_an_edit_with_a_mask_draws_over_the_first_image_and_leaves_the_rest(client, live, model, references, kind):
    picture = Image.new("RGB", (32, 32), (10, 200, 30))
    buffer, mask = io.BytesIO(), io.BytesIO()
    picture.save(buffer, "PNG")
    white = Image.new("L", (32, 32))
    white.paste(255, (16, 0, 32, 32))
    if kind == "white where":
        white.save(mask, "PNG")
    else:
        alpha = picture.copy()
        alpha.putalpha(white.point(lambda value: 255 - value))
        alpha.save(mask, "PNG")
    red = references / "red.png"
    images = [("p.png", buffer.getvalue()), ("red.png", red.read_bytes())]
    answer = client.images.edit(
        image=images, mask=("m.png", mask.getvalue()), prompt="f", size="auto", extra_body={"seed": 2}
    )
    [found] = answer.data
    assert (pixels(found.b64_json)[:, :16] == (10, 200, 30)).all()
    assert not (pixels(found.b64_json)[:, 16:] == (10, 200, 30)).all()
    assert found.subjects == ["subject 2"] or found.subjects == ["subject 1"]


def test_streaming(client):
    events = list(client.images.generate(prompt="f", stream=True, partial_images=1, extra_body={"seed": 3, "steps": 6}))
    assert [event.type for event in events] == ["image_generation.partial_image", "image_generation.completed"]
    assert events[0].partial_image_index == 0
    assert pixels(events[0].b64_json).shape == (32, 32, 3)
    expected = client.images.generate(prompt="f", extra_body={"seed": 3, "steps": 6})
    np.testing.assert_array_equal(pixels(events[1].b64_json), pixels(expected.data[0].b64_json))


@pytest.mark.parametrize(
    ("given", "param", "message"),
    [
        ({"prompt": ""}, "prompt", "at least 1 character"),
        ({"prompt": "f" * 4001}, "prompt", "4,001 characters, more than 4,000"),
        ({"size": "33x32"}, "size", "multiples of 8"),
        ({"size": "0x32"}, "size", "pattern"),
        ({"size": "99992x99992"}, "size", "at most 4,194,304 pixels"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": 11}, "n", "at most 10 on this server, got 11"),
        ({"steps": 101}, "steps", "at most 100"),
        ({"seed": 2**32 - 1, "n": 2}, "seed", "goes past the largest seed"),
        ({"seeds": 4}, "seeds", "Extra inputs"),
        ({"true_cfg": 2.0, "negative_prompt": "r"}, "true_cfg", "is for FLUX.1"),
        ({"strength": 0.5}, "image", "image is missing"),
        ({"subjects": [{}]}, "subjects.0", "one of character, uploads and images, got none"),
        ({"subjects": [{"images": [0]}]}, "subjects.0.images", "this request has 0"),
        ({"subjects": [{"uploads": ["a"], "region": [0.5, 0, 0.4, 1]}]}, "subjects.0", "left < right"),
        ({"subjects": [{"uploads": ["a"], "segmenter": "/etc/passwd"}]}, "subjects.0.segmenter", "Input should be"),
        ({"subjects": [{"uploads": ["a"]}] * 9}, "subjects", "at most 8"),
        ({"guidance": 1e9}, "guidance", "less than or equal to 100"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_it_is_accepted(live, given, param, message):
    folders = {path.name for path in (live.service.data.root / "jobs").iterdir()}
    before = live.service.jobs.counts()
    answer = live.http.post("/v1/images/generations", json={"prompt": "f"} | given)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert message in error["message"]
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert live.service.jobs.counts() == before
    assert {path.name for path in (live.service.data.root / "jobs").iterdir()} == folders


def test_what_is_not_there(client, live):
    for given in (
        {"subjects": [{"uploads": ["upl_0"]}]}, {"subjects": [{"uploads": ["../../etc/passwd"]}]},
        {"subjects": [{"uploads": ["https://example.org/a.png"]}]}, {"subjects": [{"character": "@nobody"}]},
        {"subjects": [{"character": "../local"}]}, {"model": "gpt-image-1"},
    ):  # fmt: skip
        with pytest.raises(openai.NotFoundError) as told:
            client.images.generate(prompt="f", extra_body=given)
        assert str(live.service.data.root) not in str(told.value)


@pytest.mark.parametrize("content", [b"", b"no picture", png()[:70], b"<svg/>", png(form="BMP")])
def test_bad_pictures_in_an_edit(client, content):
    with pytest.raises(openai.BadRequestError, match="image"):
        client.images.edit(image=[("a.png", png()), ("b.png", content)], prompt="f")


def test_a_picture_that_turns_out_bad_fails_with_a_sentence(client, live):
    plain = live.upload(png(32, 32, (0, 0, 0, 0)))
    with pytest.raises(openai.BadRequestError) as told:
        client.images.generate(prompt="f", extra_body={"subjects": [{"uploads": [plain]}]})
    message = str(told.value)
    assert "subject" in message or "transparent" in message
    assert str(live.service.data.root) not in message


def test_a_repeated_request_draws_nothing(client, references):
    headers = {"Idempotency-Key": "one"}
    first = client.images.generate(prompt="f", extra_headers=headers)
    again = client.images.generate(prompt="f", extra_headers=headers)
    assert (again.job, again.data[0].b64_json) == (first.job, first.data[0].b64_json)
    with pytest.raises(openai.ConflictError, match="belongs to another request"):
        client.images.generate(prompt="r", extra_headers=headers)
    red, blue = (("a.png", (references / f"{name}.png").read_bytes()) for name in ("red", "blue"))
    edit = {"image": red, "prompt": "f", "extra_headers": {"Idempotency-Key": "two"}}
    assert client.images.edit(**edit).job == client.images.edit(**edit).job
    with pytest.raises(openai.ConflictError):
        client.images.edit(**edit | {"image": blue})


@pytest.mark.usefixtures("slow_steps")
def test_a_client_that_is_gone_cancels_its_job(live):
    long = {"prompt": "f", "steps": 100, "n": 10}
    for more in ({}, {"stream": True}):
        known = live.service.jobs.ids()
        with (
            pytest.raises(httpx.ReadTimeout),
            httpx.Client(base_url=live.url, timeout=0.7) as http,
            http.stream("POST", "/v1/images/generations", json=long | more) as answer,
        ):
            for _ in answer.iter_lines():
                time.sleep(1)
                break
            raise httpx.ReadTimeout("gone")
        [job] = live.service.jobs.ids() - known
        assert live.ended(job)["state"] == "cancelled"


@pytest.mark.usefixtures("slow_steps")
@pytest.mark.parametrize("keep", [False, True])
def test_a_stream_that_is_ended_anywhere_cancels_its_job(live, monkeypatch, keep):
    """Two look for a client that is gone, this code and the response, which may end it while it waits for the job."""
    accepted = live.http.post(
        "/v1/images/generations", json={"prompt": "f", "steps": 20}, headers={"Prefer": "respond-async"}
    )
    job = live.service.jobs.get(accepted.json()["id"])
    gone = SimpleNamespace(is_disconnected=AsyncMock(return_value=True))

    async def ended_while_it_waits() -> None:
        waits = asyncio.Event()

        async def wait(*_: object, **__: object) -> None:
            waits.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(images, "wait_for", wait)
        body = ImageRequest(prompt="f", stream=True)
        told = images._stream(live.service, job, body, cast(Request, gone), keep=keep)
        response = asyncio.ensure_future(anext(told))
        await waits.wait()
        response.cancel()
        with pytest.raises(asyncio.CancelledError):
            await response

    asyncio.run(ended_while_it_waits())
    assert live.ended(job.id)["state"] == ("done" if keep else "cancelled")


def test_one_with_an_idempotency_key_can_come_back(live):
    body, headers = {"prompt": "f", "steps": 40}, {"Idempotency-Key": "back"}
    with pytest.raises(httpx.ReadTimeout), httpx.Client(base_url=live.url, timeout=0.2) as http:
        http.post("/v1/images/generations", json=body, headers=headers)
    answer = live.http.post("/v1/images/generations", json=body, headers=headers)
    assert answer.status_code == 200
    assert live.service.jobs.get(answer.json()["job"]).crashes == 0


def test_requests_that_are_alike_are_drawn_together(live):
    later = {"Prefer": "respond-async"}

    def begin(**given: object) -> httpx.Response:
        return live.http.post("/v1/images/generations", json={"prompt": "f"} | given, headers=later)

    slow = begin(steps=40).json()["id"]
    jobs = [begin(prompt=prompt, seed=3) for prompt in ("f", "r", "f r")]
    assert {job.status_code for job in jobs} == {202}
    assert live.ended(slow)["state"] == "done"
    for job in jobs:
        found = live.ended(job.json()["id"])
        record = live.http.get(found["pictures"][0]["record"]).json()
        assert record["together"] == 3
