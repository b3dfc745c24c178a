"""What the page asks for over HTTP: sessions, other sites, uploads, jobs, models."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from anystory.studio.app import build_api
from anystory.studio.settings import StudioSettings
from anystory.studio.shell import COOKIE
from anystory.studio.worker.worker import DrawingProcess, Ticket
from studio.conftest import DEMO, Browser
from studio.light_tasks import Dies, Steps


def test_a_browser_gets_a_session_that_scripts_cannot_read(browser: Browser):
    answer = browser.get("/api/jobs")
    cookie = answer.headers["set-cookie"].lower()
    assert COOKIE in cookie
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "set-cookie" not in browser.get("/api/jobs").headers


def test_work_is_there_after_a_reload_and_after_a_restart(settings: StudioSettings):
    draft = {"prompt": "Mara waving", "pictures": 2, "seed": 5, "cast": [{"name": "Bo", "region": [0, 0, 0.5, 1]}]}
    with Browser(build_api(settings), base_url="http://127.0.0.1") as first:
        told = first.ask("scene.save", scene=draft)
        assert told["reads"] == "a fox waving, with a robot"
        assert [name for name, _ in told["subjects"]] == ["Mara", "Bo"]
        token = first.cookies[COOKIE]
    with Browser(build_api(settings), base_url="http://127.0.0.1", cookies={COOKIE: token}) as again:
        scene = again.ask("scene")["scene"]
    assert {name: scene[name] for name in ("prompt", "pictures", "seed")} == {
        "prompt": "Mara waving",
        "pictures": 2,
        "seed": 5,
    }
    assert scene["cast"][0]["region"] == [0, 0, 0.5, 1]


def test_two_browsers_do_not_meet(settings: StudioSettings):
    with Browser(build_api(settings), base_url="http://127.0.0.1") as one:
        other = Browser(one.app, base_url="http://127.0.0.1")
        one.ask("scene.save", scene={"prompt": "mine"})
        key = one.give(DEMO / "fox.png")
        assert other.ask("scene")["scene"]["prompt"] == ""
        assert "not here" in other.ask("cast.cut", status=422, upload=key)["message"]


def test_other_sites_and_other_names_of_this_machine_are_refused(browser: Browser):
    assert browser.post("/api/scene", json={}).status_code == 403
    assert browser.post("/api/upload", content=b"x").status_code == 403
    assert browser.get("/api/jobs", headers={"host": "evil.example"}).status_code == 400


@pytest.mark.parametrize("action", ["nothing", "__class__", "scene%2F..%2Fcast"])
def test_what_is_no_action_is_said(browser: Browser, action: str):
    assert browser.post(f"/api/{action}", json={}, headers={"x-studio-language": "en"}).status_code == 404


def test_a_file_that_is_too_large_is_refused_before_it_is_read(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("anystory.studio.app.MOST_UPLOAD", 1000)
    answer = browser.post("/api/upload?name=x.png", content=b"x" * 2000, headers={"x-studio-language": "de"})
    assert answer.status_code == 413
    assert answer.json()["field"] == "file"


def test_the_language_is_that_of_the_page_else_the_browsers(browser: Browser):
    for headers, home in (({"accept-language": "de-AT,de;q=0.9"}, "/de/"), ({"accept-language": "fr"}, "/en/")):
        assert browser.get("/", headers=headers, follow_redirects=False).headers["location"] == home
    told = browser.post(
        "/api/draw", json={"what": "scene", "scene": {"prompt": ""}}, headers={"x-studio-language": "de"}
    )
    assert told.json() == {"field": "prompt", "message": "Sag zuerst, was im Bild geschieht."}


@pytest.mark.parametrize(
    ("scene", "field"),
    [({"pictures": 99}, "pictures"), ({"steps": 0}, "steps"), ({"seed": -1}, "seed"), ({"guidance": "x"}, "guidance")],
)
def test_numbers_out_of_range_stand_beside_their_field(browser: Browser, scene: dict, field: str):
    told = browser.ask("draw", status=422, what="scene", scene={"prompt": "Mara", **scene})
    assert told["field"] == field


def until_ended(browser: Browser) -> dict:
    for _ in range(2000):
        told = browser.get("/api/jobs").json()["scene"]
        if not told["open"]:
            return told
        time.sleep(0.02)
    raise AssertionError("the job did not end")


def test_a_job_is_followed_cancelled_and_outlived(browser: Browser):
    """With light tasks in place of drawing: what is told of them is the same."""
    worker: DrawingProcess = browser.app.state.worker  # pyright: ignore[reportAttributeAccessIssue]
    browser.get("/api/jobs")
    _, session = browser.app.state.sessions.get(browser.cookies[COOKIE])  # pyright: ignore[reportAttributeAccessIssue]
    session.scene_job = worker.submit(Steps(1000, 0.02))
    while not (told := browser.get("/api/jobs").json()["scene"]).get("preview"):
        time.sleep(0.02)
    assert told["state"] == "drawing"
    assert told["preview"].startswith("data:image/png;base64,")
    browser.ask("cancel", what="scene")
    assert until_ended(browser)["state"] == "cancelled"
    session.scene_job = worker.submit(Dies())
    assert until_ended(browser)["state"] == "crashed"
    session.scene_job = worker.submit(Steps(1))
    assert until_ended(browser)["state"] == "done"
    assert isinstance(session.scene_job, Ticket)


def test_models_are_listed_chosen_and_refused(browser: Browser, settings: StudioSettings, tmp_path: Path):
    told = browser.ask("models")
    assert told["options"]["model"] == settings.options.model
    assert "mini" in [one["name"] for one in told["models"] if one["draws"]]
    assert all(one["command"] for one in told["missing"])
    now = browser.ask("models.choose", model="mini", adapter="", device="cpu", dtype="float32", threads=2)
    assert (now["options"]["model"], now["options"]["threads"], now["options"]["adapter"]) == ("mini", 2, None)
    for wrong, field in (
        ({"model": str(tmp_path / "none.safetensors")}, "model"),
        ({"model": "no-such-model"}, "model"),
        ({"model": "mini", "adapter": "no/such-adapter"}, "adapter"),
        ({"model": str(Path(settings.options.model) / "adapter")}, "model"),
        ({"model": "mini", "device": "tpu"}, "device"),
        ({"model": "mini", "threads": 0}, "threads"),
        ({"model": "mini", "quantize": "int2"}, "quantize"),
    ):
        assert browser.ask("models.choose", status=422, **wrong)["field"] == field, wrong
    assert browser.ask("models")["options"]["model"] == "mini"
