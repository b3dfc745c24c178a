"""Subjects looked for in a picture: what is asked for, the task that looks, its masks as they are shown and given."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anystory.cast import Library
from anystory.engine.cancelling import Cancelled
from anystory.pipelines.unet.segmenting import UNetSegmentMixin
from anystory.segment.tints import SLOT_COLOURS
from anystory.studio.session import Session
from anystory.studio.shell import COOKIE
from anystory.studio.tabs import segment
from anystory.studio.told import FieldError
from anystory.studio.worker.events import SamplingProgress, Searching, SubjectsFound
from pipelines import helpers
from studio.conftest import DEMO, Browser, Desk
from studio.light_tasks import Held, Steps


@pytest.fixture
def scene(session: Session, tmp_path: Path) -> str:
    """The upload of a picture to look at, with a name of its own."""
    helpers.picture(48, 32).save(tmp_path / "a scene.png")
    return session.keep_upload("a scene.png", (tmp_path / "a scene.png").read_bytes())


@pytest.fixture
def asked(session: Session, scene: str) -> dict[str, Any]:
    """What the page sends: Mara as she looks in winter, and a robot from a picture."""
    robot = session.keep_upload("robot.png", (DEMO / "robot.png").read_bytes())
    references = [{"name": "Mara", "variant": "winter"}, {"name": " the robot ", "upload": robot}]
    return {"segment": {"picture": scene, "references": references, "prompt": "two friends"}}


def test_characters_and_uploads_are_looked_for_with_the_model_in_use(session: Session, asked: dict, library: Library):
    task, _ = segment.prepared(session, asked)
    assert task.picture == session.upload(asked["segment"]["picture"])
    assert [one.name for one in task.subjects] == ["Mara", "the robot"]
    assert task.subjects[0].image == library["Mara"].cutouts("winter")[0]
    assert task.subjects[1].image.name == "robot.png"
    assert (task.prompt, task.options) == ("two friends", session.options())


@pytest.mark.parametrize(
    ("changed", "field", "key"),
    [
        ({"picture": None}, "picture", "no_picture"),
        ({"references": []}, "references", "no_references"),
        ({"references": [{"name": " ", "upload": "x"}]}, "references", "no_name"),
        ({"references": [{"name": "Mara"}, {"name": "Mara "}]}, "references", "same_name"),
        ({"references": [{"name": "Nobody"}]}, "references", "unknown_character"),
        ({"references": [{"name": "x" * 81}]}, "references", "too_long"),
    ],
)
def test_what_cannot_be_looked_for_names_its_field(session: Session, asked: dict, changed: dict, field: str, key: str):
    with pytest.raises(FieldError) as caught:
        segment.prepared(session, {"segment": asked["segment"] | changed})
    assert (caught.value.field, caught.value.key) == (field, key)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"picture": "gone"}, "picture"),
        ({"references": [{"name": "x", "upload": "gone"}]}, "references"),
        ({"references": [{"name": "Mara", "variant": "summer"}]}, "references"),
    ],
)
def test_what_is_not_here_any_more_stands_beside_its_field(session: Session, asked: dict, changed: dict, field: str):
    with pytest.raises(ValueError) as caught:
        segment.prepared(session, {"segment": asked["segment"] | changed})
    assert getattr(caught.value, "field", None) == field


def test_a_model_without_a_router_is_refused_before_anything_waits(session: Session, asked: dict, tmp_path: Path):
    index = {"_class_name": "Flux2KleinPipeline", "transformer": ["diffusers", "Flux2Transformer2DModel"]}
    (tmp_path / "klein").mkdir()
    (tmp_path / "klein" / "model_index.json").write_text(json.dumps(index))
    session.state.options = {"model": str(tmp_path / "klein")}
    with pytest.raises(FieldError) as caught:
        segment.prepared(session, asked)
    assert (caught.value.field, caught.value.key) == ("model", "no_router")


@pytest.fixture
def looked(session: Session, asked: dict, desk: Desk) -> Session:
    """A session whose picture has been looked at."""
    task, keep = segment.prepared(session, asked)
    task.run(desk)
    for event in desk.told:
        keep(event)
    return session


def test_masks_are_kept_shown_in_their_colours_and_given_away(looked: Session, desk: Desk):
    assert [type(event) for event in desk.told] == [Searching, SamplingProgress, SubjectsFound]
    told = segment.shown(looked)
    found, folder = told["found"], looked.state.segmented or ""
    assert told["segment"]["prompt"] == "two friends"
    assert (found["width"], found["height"]) == (48, 32)
    assert [one["name"] for one in found["subjects"]] == ["Mara", "the robot"]
    assert [one["colour"] for one in found["subjects"]] == ["#0072b2", "#e69f00"] == told["colours"][:2]
    masks = []
    for number in (1, 2):
        name, data = segment.mask_file(looked, folder, number)
        assert name.startswith(f"{number}-")
        masks.append(np.asarray(Image.open(io.BytesIO(data))))
    assert [one["share"] for one in found["subjects"]] == pytest.approx([(m > 0).mean() for m in masks], abs=1e-5)
    over = np.asarray(Image.open(io.BytesIO(segment.overlay(looked, folder, None))))
    for mask, colour in zip(masks, SLOT_COLOURS, strict=False):
        assert (over[mask > 0][:, :3] == colour).all()
    assert not over[(masks[0] == 0) & (masks[1] == 0)][:, 3].any()
    only = np.asarray(Image.open(io.BytesIO(segment.overlay(looked, folder, [1]))))
    assert (only[..., 3] > 0).tolist() == (masks[1] > 0).tolist()
    name, data = segment.whole_folder(looked, folder)
    assert name == f"{folder}-masks.zip"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        inside = {Path(one).name for one in archive.namelist()}
    assert {"overlay.png", "background.png", "segmentation.json", "1-Mara-mask.png"} <= inside


def test_only_the_masks_that_were_found_last_are_given(looked: Session):
    for folder in ("..", "", "another", f"{looked.state.segmented}/.."):
        with pytest.raises(ValueError, match="not here any more"):
            segment.whole_folder(looked, folder)
    with pytest.raises(ValueError, match="there are 2 masks, got 3"):
        segment.mask_file(looked, looked.state.segmented or "", 3)


def test_it_is_cancelled_between_looks_and_leaves_nothing(
    session: Session, asked: dict, desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(UNetSegmentMixin, "_at_once", lambda pipe, latents: 1)
    task, _ = segment.prepared(session, asked)
    tell = desk.send

    def cancel(event: Any) -> None:
        tell(event)
        if isinstance(event, SamplingProgress):
            desk.token.cancel()

    desk.send = cancel
    with pytest.raises(Cancelled):
        task.run(desk)
    [begun, look] = desk.told
    assert begun == Searching()
    assert isinstance(look, SamplingProgress)
    assert (look.picture, look.pictures, look.step, look.steps) == (1, 1, 1, 2)
    assert not session.segments.exists()


def test_what_was_cancelled_before_leaves_nothing(session: Session, asked: dict, desk: Desk):
    task, _ = segment.prepared(session, asked)
    desk.token.cancel()
    with pytest.raises(Cancelled):
        task.run(desk)
    assert not session.segments.exists()


def test_uploads_are_checked_as_they_are_given(browser: Browser, tmp_path: Path):
    (tmp_path / "bad.png").write_text("no picture")
    bad, robot = browser.give(tmp_path / "bad.png"), browser.give(DEMO / "robot.png")
    for field in ("picture", "references"):
        told = browser.ask("segment.check", status=422, upload=bad, field=field)
        assert told["field"] == field
        assert "'bad.png' is not a picture" in told["message"]
        assert browser.ask("segment.check", upload=robot, field=field) == {"uncertain": False}
    assert browser.get(f"/files/upload/{robot}.png").content.startswith(b"\x89PNG")
    assert browser.get(f"/files/upload/{bad}.png").status_code == 404
    with Image.open(io.BytesIO(browser.get(f"/files/cutout/cut?upload={robot}").content)) as cut:
        assert cut.mode == "RGBA"
    assert browser.get("/files/segment/x/all").status_code == 404


def test_what_is_looked_for_is_there_after_a_reload(browser: Browser):
    key = browser.give(DEMO / "fox.png")
    browser.ask("segment.save", segment={"picture": key, "references": [{"name": "Bo"}], "prompt": "a beach"})
    told = browser.ask("segment")
    assert told["found"] is None
    assert (told["segment"]["picture"], told["segment"]["prompt"]) == (key, "a beach")
    assert told["segment"]["references"] == [{"name": "Bo", "upload": None, "variant": None, "uncertain": False}]
    assert browser.ask("draw", status=422, what="segment", segment={})["field"] == "picture"


def test_the_page_hears_of_each_look_and_cancels(browser: Browser, tmp_path: Path):
    """A light task in the place of the search: it waits at its second look."""
    app: Any = browser.app
    browser.get("/api/jobs")
    _, session = app.state.sessions.get(browser.cookies[COOKIE])
    session.segment_job = app.state.worker.submit(Held(Steps(5, looking=True), tmp_path / "let go"))

    def told_when(done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        for _ in range(3000):
            if done(told := browser.get("/api/jobs").json()["segment"]):
                return told
            time.sleep(0.02)
        raise AssertionError(told)

    told = told_when(lambda told: told.get("step") == 2)
    assert (told["state"], told["open"], told["steps"], told["pictures"]) == ("looking", True, 5, 1)
    browser.ask("cancel", what="segment")
    ended = told_when(lambda told: not told["open"])
    assert (ended["state"], ended["step"], ended["message"]) == ("cancelled", 2, "")
    assert browser.get("/api/jobs").json()["scene"] is None
