"""Subjects found over HTTP: the engine's masks, from uploads, files of a form and characters."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import time
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from anystory.engine.drawing import load
from anystory.engine.options import ModelOptions
from anystory.evaluation.segment.trials import draw_scenes, trials_of
from anystory.pipelines.unet import segmenting as unet_segmenting
from anystory.pipelines.unet.segmenting import UNetSegmentMixin
from anystory.serving.keys import KeyRing
from anystory.serving.run import worker_setup
from anystory.serving.service import Service
from anystory.serving.settings import Bounds
from anystory.serving.work.control import Control
from anystory.serving.work.messages import Done, JobProgress, Message, Stopped, WorkerTask
from anystory.serving.work.segmentation import SegmentWorker
from anystory.subjects import Subject
from pipelines import helpers

from ..conftest import InlineWorker, LiveServer, events, png, running, settings_for


@pytest.fixture(scope="module")
def scene() -> bytes:
    """A picture to look at."""
    return encoded(helpers.picture(48, 32))


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return load(ModelOptions(model=str(tiny_model), threads=1))


def found_by(model: Any, scene: bytes, references: Path, **given: Any) -> Any:
    """What the engine finds of the red disc and the blue square."""
    subjects = [
        Subject(references / "red.png", name="red"),
        Subject(references / "blue.png", mask=references / "blue-mask.png", region=(0, 0, 0.5, 1)),
    ]
    return model.segment(Image.open(io.BytesIO(scene)), subjects, **given)[0]


def opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def ask(live: LiveServer, **given: Any) -> httpx.Response:
    return live.http.post("/v1/segment", json=given)


def uploads(live: LiveServer, references: Path) -> list[dict[str, Any]]:
    """The subjects of `found_by`."""
    red, blue, mask = (live.upload((references / f"{name}.png").read_bytes()) for name in ("red", "blue", "blue-mask"))
    return [{"uploads": [red], "name": "red"}, {"uploads": [blue], "masks": [mask], "region": [0, 0, 0.5, 1]}]


def test_the_masks_are_the_engines(live, model, scene, references):
    given = {"levels": [0.2, 0.5], "draws": 2, "seed": 3, "prompt": "f"}
    expected = found_by(model, scene, references, **given)
    more = {"layers": True, "overlay": True}
    answer = ask(live, image=live.upload(scene), subjects=uploads(live, references), **given, **more)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert ([one["name"] for one in found["data"]], found["width"], found["height"]) == (["red", "subject 2"], 48, 32)
    whole = Image.new("RGBA", (48, 32))
    for one, mask, confidence in zip(found["data"], expected.masks, expected.confidence, strict=True):
        got = opened(one["b64_json"])
        assert (got.mode, one["confidence"]) == ("L", pytest.approx(confidence, abs=1e-6))
        np.testing.assert_array_equal(np.asarray(got) > 0, mask)
        assert (one["share"], one["present"]) == (pytest.approx(mask.mean(), abs=1e-6), mask.any())
        assert "url" not in one
        whole = Image.alpha_composite(whole, opened(one["layer"]))
    whole = Image.alpha_composite(whole, opened(found["background"]))
    np.testing.assert_array_equal(np.asarray(whole)[..., :3], np.asarray(Image.open(io.BytesIO(scene))))
    np.testing.assert_array_equal(np.asarray(opened(found["overlay"])), np.asarray(expected.overlay()))


def test_a_form_with_files_answered_by_urls(live, model, scene, references):
    files = [
        ("image", ("a.png", scene)),
        *(("reference[]", (name, (references / name).read_bytes())) for name in ("red.png", "blue.png")),
    ]
    subjects = [{"images": [0], "name": "red"}, {"images": [1], "name": "blue"}]
    data = {"subjects": json.dumps(subjects), "levels": "[0.3]", "response_format": "url", "overlay": "true"}
    found = live.http.post("/v1/segment", files=files, data=data).json()
    assert [one["name"] for one in found["data"]] == ["red", "blue"]
    for one in found["data"]:
        assert one["url"].startswith(live.url)
        mask = live.http.get(one["url"])
        assert mask.headers["content-type"] == "image/png"
        assert (np.asarray(Image.open(io.BytesIO(mask.content))) > 0).mean() == pytest.approx(one["share"], abs=1e-6)
        assert "layer" not in one
    assert Image.open(io.BytesIO(live.http.get(found["overlay"]).content)).size == (48, 32)
    plain = live.http.post("/v1/segment", files=files, data={"levels": "[0.3]"}).json()
    assert [one["name"] for one in plain["data"]] == ["subject 1", "subject 2"], "each reference is a subject"
    assert opened(plain["data"][0]["b64_json"]).size == (48, 32)


def test_a_character_by_name_and_id_and_the_job_afterwards(live, scene, references):
    red = live.upload((references / "red.png").read_bytes())
    assert live.http.post("/v1/characters", json={"name": "Lena", "uploads": [red]}).status_code == 201
    body = {"image": live.upload(scene), "subjects": [{"character": "@lena"}]}
    named = live.http.post("/v1/segment", json=body).json()
    body["subjects"] = [{"character": "lena"}]
    begun = live.http.post("/v1/segment", json=body, headers={"Prefer": "respond-async"})
    assert (begun.status_code, begun.json()["kind"]) == (202, "segmentation")
    assert begun.headers["location"] == f"/v1/jobs/{begun.json()['id']}"
    live.http.delete("/v1/characters/lena")
    job = live.ended(begun.json()["id"])
    assert (job["state"], job["pictures"]) == ("done", [])
    shown = job["segmentation"]
    [one] = shown["subjects"]
    assert live.http.get(one["mask"]).content == base64.b64decode(named["data"][0]["b64_json"])
    assert one["confidence"] == named["data"][0]["confidence"]
    for url in (one["layer"], shown["background"]):
        assert Image.open(io.BytesIO(live.http.get(url).content)).mode == "RGBA"
    url = f"/v1/jobs/{job['id']}"
    for path in ("masks/0", "masks/2", "layers/2", "overlay", "pictures/1"):
        assert live.http.get(f"{url}/{path}").status_code == 404, path
    assert str(live.service.data.root) not in json.dumps(job)


@pytest.fixture
def one_look_for_each_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny picture is otherwise looked at once, in all noised copies together."""
    monkeypatch.setattr(UNetSegmentMixin, "_at_once", lambda pipe, latents: 1)


def begin(live: LiveServer, scene: bytes, references: Path, **given: Any) -> str:
    """A job that nobody waits for."""
    body = {"image": live.upload(scene), "subjects": uploads(live, references)} | given
    begun = live.http.post("/v1/segment", json=body, headers={"Prefer": "respond-async"})
    assert begun.status_code == 202, begun.text
    return begun.json()["id"]


@pytest.mark.usefixtures("one_look_for_each_copy")
def test_each_look_is_an_event(live, scene, references, monkeypatch):
    listening = hold_looks(monkeypatch, after=0)
    job = begin(live, scene, references, levels=[0.2, 0.4, 0.6], draws=2)
    with live.http.stream("GET", f"/v1/jobs/{job}/events") as answer:
        seen = events(answer)
        told = [next(seen)]
        listening.set()
        told += seen
    assert told[-1] == ("job", {"state": "done"})
    steps = [data for kind, data in told if kind == "step"]
    assert [(one["step"], one["steps"], one["picture"], one["pictures"]) for one in steps] == [
        (number, 6, 1, 1) for number in range(1, 7)
    ]
    assert [one["done"] for one in steps] == pytest.approx([number / 6 for number in range(1, 7)])
    assert steps[0]["seconds_left"] is None
    assert all(one["seconds_left"] > 0 for one in steps[1:-1])
    assert {kind for kind, _ in told} == {"job", "step"}, "no previews and no pictures"


@pytest.mark.usefixtures("one_look_for_each_copy")
def test_a_running_search_tells_how_far_it_is_and_is_cancelled_between_looks(live, scene, references, monkeypatch):
    go_on = hold_looks(monkeypatch, after=2)
    job = begin(live, scene, references, levels=[0.2, 0.4, 0.6, 0.8])
    with live.http.stream("GET", f"/v1/jobs/{job}/events") as answer:
        seen = events(answer)
        while live.http.get(f"/v1/jobs/{job}").json()["progress"] is None:
            time.sleep(0.02)
        running = live.http.get(f"/v1/jobs/{job}").json()
        assert (running["state"], running["progress"]["steps"]) == ("running", 4)
        assert live.http.get(f"/v1/jobs/{job}/record").status_code == 404
        live.http.delete(f"/v1/jobs/{job}")
        go_on.set()
        told = list(seen)
    assert told[-1] == ("job", {"state": "cancelled"})
    assert {data["step"] for kind, data in told if kind == "step"} <= {1, 2}, "no look after the one in progress"
    assert live.http.get(f"/v1/jobs/{job}").json()["segmentation"] is None
    for path in ("masks/1", "record", "overlay"):
        assert live.http.get(f"/v1/jobs/{job}/{path}").status_code == 404, path
    assert not (live.service.data.job(job) / "out").exists()
    assert ask(live, image=live.upload(scene), subjects=uploads(live, references)).status_code == 200


def hold_looks(monkeypatch: pytest.MonkeyPatch, *, after: int) -> Event:
    """Let the worker, which runs in this process, wait after some looks until the event is set."""
    go_on, noised, looks = Event(), unet_segmenting._noised, list[int]()

    def wait(*given: Any) -> Any:
        looks.append(1)
        if len(looks) > after:
            assert go_on.wait(120)
        return noised(*given)

    monkeypatch.setattr(unet_segmenting, "_noised", wait)
    return go_on


def test_the_record_is_served_without_the_servers_folders(live, tiny_model, scene, references):
    job = begin(live, scene, references, levels=[0.3], seed=3, prompt="f", overlay=True)
    found = live.ended(job)["segmentation"]
    answer = live.http.get(found["record"])
    assert answer.headers["content-type"] == "application/json"
    record = answer.json()
    assert (record["format"], record["seed"], record["prompt"]) == ("anystory-segmentation/1", 3, "f")
    assert record["fusion"]["levels"] == [0.3]
    assert [one["subject"]["name"] for one in record["subjects"]] == ["red", "subject 2"]
    assert [one["share"] for one in record["subjects"]] == [one["share"] for one in found["subjects"]]
    assert record["picture"]["sha256"] == hashlib.sha256(scene).hexdigest()
    assert record["options"]["model"] == "…/tiny"
    assert str(live.service.data.root) not in answer.text
    assert str(tiny_model.parent) not in answer.text
    [kept] = (live.service.data.job(job) / "out").glob("*/segmentation.json")
    assert json.loads(kept.read_text(encoding="utf-8"))["options"]["model"] == str(tiny_model), "what is kept is whole"
    picture = live.http.post("/v1/images/generations", json={"prompt": "f"}).json()["job"]
    for path in (f"/v1/jobs/{picture}/record", "/v1/jobs/job_0/record"):
        assert live.http.get(path).status_code == 404, path


def test_a_repeated_request_looks_once(live, scene, references):
    files = [("image", ("a.png", scene)), ("reference", ("b.png", (references / "red.png").read_bytes()))]
    headers = {"Idempotency-Key": "look"}
    first, again = (live.http.post("/v1/segment", files=files, headers=headers).json() for _ in range(2))
    assert first == again
    other = [files[0], ("reference", ("b.png", (references / "blue.png").read_bytes()))]
    assert live.http.post("/v1/segment", files=other, headers=headers).status_code == 409


@pytest.mark.parametrize(
    ("given", "status", "param", "message"),
    [
        ({"image": None}, 400, "image", "send one `image`"),
        ({"image": "upl_0"}, 404, "image", "no upload 'upl_0'"),
        ({"image": "../../etc/passwd"}, 404, "image", "no upload"),
        ({"image": "https://example.org/a.png"}, 404, "image", "no upload"),
        ({"subjects": None}, 400, "subjects", "name 1 to 8 subjects to look for, got 0"),
        ({"subjects": []}, 400, "subjects", "got 0"),
        ({"subjects": [{"uploads": ["a"]}] * 9}, 400, "subjects", "got 9"),
        ({"subjects": [{"images": [0]}]}, 400, "subjects.0.images", "this request has 0"),
        ({"subjects": [{"character": "@nobody"}]}, 404, "subjects.0.character", "nobody"),
        ({"levels": [0.5, 0.2]}, 400, "levels", "rising"),
        ({"levels": [0, 0.2]}, 400, "levels", "between 0 and 1"),
        ({"levels": []}, 400, "levels", "at least 1"),
        ({"draws": 0}, 400, "draws", "greater than or equal to 1"),
        ({"levels": [n / 20 for n in range(1, 17)], "draws": 16}, 400, "draws", "at most 100 here, got 256"),
        ({"seed": -1}, 400, "seed", "greater than or equal to 0"),
        ({"prompt": "f" * 4001}, 400, "prompt", "4,001 characters"),
        ({"picture": "a"}, 400, "picture", "Extra inputs"),
    ],
)
def test_what_cannot_be_is_refused_before_it_is_accepted(live, scene, references, given, status, param, message):
    body = {"image": live.upload(scene), "subjects": uploads(live, references)} | given
    folders = {path.name for path in (live.service.data.root / "jobs").iterdir()}
    answer = ask(live, **body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], message in error["message"]) == (status, param, True), answer.text
    assert {path.name for path in (live.service.data.root / "jobs").iterdir()} == folders
    assert str(live.service.data.root) not in answer.text


def test_bodies_that_are_no_request(live, scene):
    for content, kind in ((b"", "application/json"), (b"[" * 10**5, "application/json"), (b"image=a", "text/plain")):
        answer = live.http.post("/v1/segment", content=content, headers={"Content-Type": kind})
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["message"]
    other = [("image", ("a.png", scene)), ("photo", ("b.png", scene))]
    for files in (other, [("image", ("a.png", scene))] * 2 + [("reference", ("b.png", scene))]):
        assert live.http.post("/v1/segment", files=files).status_code == 400
    bad = [("image", ("a.png", b"no picture")), ("reference", ("b.png", scene))]
    assert live.http.post("/v1/segment", files=bad).json()["error"]["code"] == "invalid_image"


def test_a_subject_that_turns_out_bad_fails_with_a_sentence(live, scene):
    body = {"image": live.upload(scene), "subjects": [{"uploads": [live.upload(png(32, 32, (0, 0, 0, 0)))]}]}
    answer = ask(live, **body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "job_failed")
    assert str(live.service.data.root) not in answer.text


def test_large_pictures_and_models_that_cannot_are_refused(place, tiny_model, tmp_path, scene):
    """The servers have no worker: it is said before anything is accepted."""
    index = {"_class_name": "Flux2KleinPipeline", "transformer": ["diffusers", "Flux2Transformer2DModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    files = [("image", ("a.png", scene)), ("reference", ("b.png", png()))]
    settings = settings_for(place / "a", tiny_model, bounds=Bounds(pixels=48 * 31))
    with running(Service(settings, KeyRing(), [])) as server:
        answer = server.http.post("/v1/segment", files=files)
        assert "image must be at most 1,488 pixels here, got 48×32" in answer.json()["error"]["message"]
    with running(Service(settings_for(place / "b", tmp_path), KeyRing(), [])) as server:
        answer = server.http.post("/v1/segment", files=files)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")
        assert "no router" in answer.json()["error"]["message"]


def test_what_an_earlier_try_has_found_is_kept_and_a_cancelled_one_stops(model, scene, references, tmp_path):
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "01.png").write_bytes(scene)
    (tmp_path / "given" / "02.png").write_bytes((references / "red.png").read_bytes())
    photos = [{"image": "given/02.png", "mask": None}]
    work = {"image": "given/01.png", "subjects": [{"name": "red", "photos": photos, "settings": {}}], "prompt": "zz"}
    work |= {"seed": 0, "levels": None, "draws": None, "overlay": False}
    told, control = list[Message](), Control()
    worker = SegmentWorker(model=model, tell=told.append, control=control)
    task = WorkerTask(job="a", kind="segmentation", work=work, folder=tmp_path)
    worker.draw(task)
    [look, done] = told
    assert look == JobProgress(job="a", picture=1, pictures=1, step=1, steps=1, done=1, seconds_left=0)
    assert isinstance(done, Done)
    mask = tmp_path / done.result["subjects"][0]["mask"]
    mask.write_bytes(b"of the first try")
    worker.draw(task)
    assert told[2:] == [done]
    assert mask.read_bytes() == b"of the first try"
    control.cancel("a")
    worker.draw(task)
    assert told[3:] == [Stopped(job="a", paused=False)]


@pytest.mark.slow
def test_the_embedded_model_finds_who_is_there(place):
    """Three scenes of StoryWorld with two characters; held-out identities."""
    settings = settings_for(place, Path("mini"))
    worker = InlineWorker(worker_setup(settings, "cpu"))
    overlaps = []
    with running(Service(settings, KeyRing(), [worker])) as server:
        while (ready := server.service.dispatcher.ready) is None:
            time.sleep(0.05)
        cases = list(draw_scenes(3, level="level1", split="heldout", size=ready.native_size))
        for trial in (one for one in trials_of(cases) if one.absent == "none"):
            files = [("image", ("a.png", encoded(Image.fromarray(trial.picture))))]
            files += [("reference", ("b.png", encoded(reference))) for reference in trial.references]
            found = server.http.post("/v1/segment", files=files).json()
            assert all(one["present"] and one["confidence"] > 0.5 for one in found["data"])
            for one, truth in zip(found["data"], trial.truth, strict=True):
                mask = np.asarray(opened(one["b64_json"])) > 0
                overlaps.append((mask & truth).sum() / (mask | truth).sum())
    assert np.mean(overlaps) > 0.6
