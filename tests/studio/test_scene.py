"""A scene: names to words and subjects, the task that draws it, one subject drawn anew, records restored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anystory.cast import Library
from anystory.engine.record.reading import load_record
from anystory.studio.session import SceneDraft, SceneMember, Session
from anystory.studio.tabs import gallery
from anystory.studio.tabs.scene import plan_scene, redraw_task, restored_draft, scene_task
from anystory.studio.told import FieldError
from anystory.studio.worker.events import PictureKept, SamplingProgress
from anystory.studio.worker.maps import read_maps
from studio.conftest import Desk


def test_names_become_words_and_subjects(session: Session):
    plan = plan_scene(session, SceneDraft(prompt="Mara and Bo waving on a beach"))
    assert plan.job.prompt == "a fox and a robot waving on a beach"
    assert (plan.names, plan.colours) == (("Mara", "Bo"), ("#e4572e", "#2e86ab"))
    assert [one.name for one in plan.job.subjects] == ["Mara", "Bo"]


def test_aliases_variants_and_somebody_who_is_not_named(session: Session):
    plan = plan_scene(session, SceneDraft(prompt="Marie waving"))
    assert plan.names == ("Mara",)
    chosen = [SceneMember(name="Mara", variant="winter"), SceneMember(name="Bo", region=(0.5, 0, 1, 1))]
    plan = plan_scene(session, SceneDraft(prompt="Mara waving", cast=chosen))
    assert plan.job.prompt == "a white fox waving, with a robot"
    mara, bo = plan.job.subjects
    assert "bear" in mara.image.name
    assert bo.settings == {"region": (0.5, 0, 1, 1)}


def test_a_prompt_as_it_is_written(session: Session):
    draft = SceneDraft(prompt="Mara, in oil", verbatim=True, cast=[SceneMember(name="Bo")])
    plan = plan_scene(session, draft)
    assert plan.job.prompt == "Mara, in oil"
    assert plan.names == ("Bo",)


def test_numbers_reach_the_job_and_seeds_count_up(session: Session):
    draft = SceneDraft(prompt="Mara", steps=3, guidance=2.5, width=64, height=128, negative="night", seed=7, pictures=3)
    task, plan = scene_task(session, draft)
    job = plan.job
    assert (job.steps, job.guidance, job.width, job.height) == (3, 2.5, 64, 128)
    assert job.negative_prompt == "night"
    assert task.seeds == (7, 8, 9)
    assert len(set(scene_task(session, SceneDraft(prompt="Mara"))[0].seeds)) == 1


@pytest.mark.parametrize(
    ("draft", "field", "key"),
    [
        (SceneDraft(prompt="  "), "prompt", "empty_prompt"),
        (SceneDraft(prompt="x", cast=[SceneMember(name="Nobody")]), "cast", "unknown_character"),
    ],
)
def test_what_cannot_be_drawn_names_its_field(session: Session, draft: SceneDraft, field: str, key: str):
    with pytest.raises(FieldError) as caught:
        plan_scene(session, draft)
    assert (caught.value.field, caught.value.key) == (field, key)


@pytest.fixture
def drawn(session: Session, desk: Desk) -> Session:
    """A session with one picture of Mara and Bo."""
    draft = SceneDraft(prompt="Mara and Bo waving", seed=3)
    task, plan = scene_task(session, draft)
    task.run(desk)
    keep = gallery.keeper(session, draft, plan)
    for event in desk.told:
        keep(event)
    return session


def test_drawing_tells_steps_with_previews_and_keeps_picture_record_and_maps(drawn: Session, desk: Desk):
    steps = [event for event in desk.told if isinstance(event, SamplingProgress)]
    assert [event.step for event in steps] == [1, 2]
    assert all(event.preview and event.preview.startswith(b"\x89PNG") for event in steps)
    [kept] = [event for event in desk.told if isinstance(event, PictureKept)]
    [entry] = drawn.state.pictures
    assert kept.picture == drawn.picture(entry.stem)
    assert (entry.names, entry.seed, entry.prompt) == (["Mara", "Bo"], 3, "Mara and Bo waving")
    assert load_record(kept.record).picture_sha256 == entry.sha256
    maps = read_maps(kept.picture)
    assert maps is not None
    with Image.open(kept.picture) as picture:
        assert maps.owners.shape == (picture.height, picture.width)
    assert maps.names == ("Mara", "Bo")
    for layer in (None, 0):
        shares = maps.probabilities(0, layer, refined=True)
        assert np.allclose(shares.sum(axis=0), 1, atol=0.02)


def test_one_subject_drawn_anew_leaves_the_rest_as_it_is(drawn: Session, desk: Desk):
    entry = drawn.state.pictures[0]
    maps = read_maps(drawn.picture(entry.stem))
    assert maps is not None
    name = max(entry.names, key=lambda one: maps.mask(entry.names.index(one)).sum())
    task, _ = redraw_task(drawn, entry, name)
    task.run(desk)
    kept = [event for event in desk.told if isinstance(event, PictureKept)][-1]
    with Image.open(drawn.picture(entry.stem)) as before, Image.open(kept.picture) as after:
        changed = (np.asarray(before.convert("RGB")) != np.asarray(after.convert("RGB"))).any(axis=-1)
    assert changed.any()
    assert not (changed & ~maps.mask(entry.names.index(name))).any()


def test_somebody_who_is_not_in_the_picture_cannot_be_drawn_anew(drawn: Session):
    with pytest.raises(FieldError) as caught:
        redraw_task(drawn, drawn.state.pictures[0], "Nobody")
    assert caught.value.key == "not_in_picture"


def test_a_painted_place_is_where_the_subject_goes_and_stands_in_the_record(session: Session, desk: Desk):
    mask = np.zeros((32, 32), np.uint8)
    mask[:, 16:] = 255
    path = session.folder / "mask.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(mask).save(path)
    key = session.keep_upload("mask.png", path.read_bytes())
    task, _ = scene_task(session, SceneDraft(prompt="Mara waving", cast=[SceneMember(name="Mara", mask=key)], seed=1))
    task.run(desk)
    [kept] = [event for event in desk.told if isinstance(event, PictureKept)]
    maps = read_maps(kept.picture)
    assert maps is not None
    owned = maps.mask(0)
    half = owned.shape[1] // 2
    assert owned[:, half:].mean() > 0.9
    assert owned[:, :half].mean() < 0.1
    [subject] = load_record(kept.record).subjects
    assert subject.region_mask is not None
    assert (kept.record.parent / subject.region_mask.file).is_file()


def test_a_picture_of_the_gallery_restores_its_scene_by_its_record(drawn: Session):
    entry = drawn.state.pictures[0]
    draft, _, missing = restored_draft(drawn, load_record(drawn.picture(entry.stem)))
    assert (draft.prompt, draft.seed, missing) == ("Mara and Bo waving", 3, [])


def test_a_record_from_elsewhere_finds_the_cast_by_its_pictures(drawn: Session, library: Library, tmp_path: Path):
    record = load_record(drawn.picture(drawn.state.pictures[0].stem))
    library.remove("Bo")
    elsewhere = Session(tmp_path / "elsewhere", drawn.settings)
    draft, options, missing = restored_draft(elsewhere, record)
    assert draft.verbatim
    assert draft.prompt == "a fox and a robot waving"
    assert [one.name for one in draft.cast] == ["Mara"]
    assert missing == ["Bo"]
    assert options["model"] == drawn.settings.options.model


def test_a_record_cannot_choose_a_model_of_this_machine(drawn: Session, tmp_path: Path):
    path = drawn.picture(drawn.state.pictures[0].stem).with_suffix(".json")
    told = json.loads(path.read_text())
    told["model"] = "/home/somebody/secret-model"
    other = tmp_path / "record.json"
    other.write_text(json.dumps(told))
    _, options, missing = restored_draft(Session(tmp_path / "elsewhere", drawn.settings), load_record(other))
    assert options == {}
    assert "secret-model" in missing


def test_everything_of_a_picture_can_be_had(drawn: Session):
    for what in ("picture", "record", "masks", "layers", "all"):
        name, data = gallery.download(drawn, drawn.state.pictures[0].stem, what)
        start = {"picture": b"\x89PNG", "record": b"{"}.get(what, b"PK")
        assert data.startswith(start), name
    with pytest.raises(ValueError, match="nothing called"):
        gallery.download(drawn, drawn.state.pictures[0].stem, "../session")


def test_maps_tell_shares_and_boxes(drawn: Session):
    told: dict[str, Any] = gallery.ACTIONS["scene.maps"](drawn, {"picture": drawn.state.pictures[0].stem})
    assert told["names"] == ["Mara", "Bo"]
    assert told["steps"] == 2
    assert len(told["layers"]) > 1
    for share, box in zip(told["shares"], told["boxes"], strict=True):
        assert (box is None) == (share == 0)
