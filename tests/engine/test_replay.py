"""Records restored, drawn again and compared."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anystory.engine.drawing import draw_into
from anystory.engine.job import Job
from anystory.engine.replay import HiddenPlaces, PathsOutside, restore


@pytest.fixture(scope="module")
def drawn_once(model, job, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("drawn") / "out"
    draw_into(out, model, replace(job, negative_prompt="x", guidance=5.0), [5])
    return out


@pytest.fixture
def drawn(drawn_once, tmp_path) -> Path:
    return shutil.copytree(drawn_once, tmp_path / "out")


def test_a_record_restores_everything(drawn, model, folder):
    restored = restore(drawn / "0001.json", trust_paths=True)
    assert restored.options == model.options
    job = restored.job
    assert (job.prompt, job.negative_prompt, job.steps, job.guidance) == ("f r", "x", 3, 5.0)
    assert [(subject.name, subject.mask is None) for subject in job.subjects] == [("red", True), ("blue", False)]
    assert restored.changed == ()
    inside = restore(drawn / "0001.png", model=str(folder))
    assert (inside.job, inside.options) == (job, model.options)


def test_a_replay_of_a_replay_is_the_picture_and_its_files_keep_their_names(drawn, model, tmp_path):
    names, path = sorted(path.name for path in (drawn / "references").iterdir()), drawn / "0001.json"
    for number in range(3):
        restored = restore(path, trust_paths=True)
        out = tmp_path / str(number)
        [again] = draw_into(out, model, restored.job, [restored.record.seed], replay_of=str(path))
        assert restored.compare(again).same_bytes
        assert again.files.picture.read_bytes() != b""
        assert sorted(path.name for path in (out / "references").iterdir()) == names
        path = again.files.record
    assert json.loads(path.read_text())["replay_of"] == str(tmp_path / "1" / "0001.json")


def test_a_job_over_a_picture_is_restored(model, job, references, tmp_path):
    over = replace(job, image=references / "blue.png", mask=references / "blue-mask.png", strength=0.9)
    [kept] = draw_into(tmp_path / "out", model, over, [3])
    restored = restore(kept.files.record, trust_paths=True)
    [again] = draw_into(tmp_path / "again", model, restored.job, [3])
    assert restored.compare(again).same_bytes
    assert restored.job.strength == 0.9


def test_a_painted_region_is_kept_and_restored(model, job, references, tmp_path):
    """It decides where the subject is, as a box does."""
    half = np.zeros((16, 16), np.uint8)
    half[:, 8:] = 255
    mask = tmp_path / "place.png"
    Image.fromarray(half).save(mask)
    red, blue = job.subjects
    painted = replace(job, subjects=(replace(red, region_mask=mask), blue))
    boxed = replace(job, subjects=(replace(red, settings={**red.settings, "region": (0.5, 0, 1, 1)}), blue))
    [kept] = draw_into(tmp_path / "out", model, painted, [3])
    [same] = draw_into(tmp_path / "boxed", model, boxed, [3])
    assert kept.record.picture_sha256 == same.record.picture_sha256
    mask.unlink()
    restored = restore(kept.files.record, trust_paths=True)
    [again] = draw_into(tmp_path / "again", model, restored.job, [3])
    assert restored.compare(again).same_bytes


def test_what_differs_is_measured(drawn, model):
    restored = restore(drawn / "0001.json", trust_paths=True)
    [other] = draw_into(drawn / "other", model, restored.job, [6])
    found = restored.compare(other)
    then, now = (np.asarray(Image.open(path)).astype(int) for path in (drawn / "0001.png", other.files.picture))
    apart = np.abs(then - now)
    assert not found.same_bytes
    assert found.share == pytest.approx((apart.max(axis=-1) > 0).mean())
    assert (found.mean, found.most) == (pytest.approx(apart.mean()), apart.max())
    (drawn / "0001.png").unlink()
    gone = restored.compare(other)
    assert (gone.share, gone.problem) == (None, "there is no picture beside the record to compare with")


def test_records_of_strangers(drawn, tmp_path):
    with pytest.raises(PathsOutside, match="names files outside its folder: model") as told:
        restore(drawn / "0001.json")
    assert told.value.outside[0][0] == "model"
    with pytest.raises(HiddenPlaces, match="drawn with the model 'tiny'") as hidden:
        restore(drawn / "0001.png")
    assert hidden.value.places == {"model": "tiny"}


def test_a_job_without_subjects_has_no_sheet(model, tmp_path):
    [kept] = draw_into(tmp_path / "out", model, Job(prompt="f"), [1])
    assert kept.files.sheet is None
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0001.json", "0001.png"]
