"""Subjects looked for: what is told meanwhile, how it ends early, and that nothing is ever half written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anystory.engine.cancelling import Cancelled, CancelToken
from anystory.engine.events import StepDone
from anystory.engine.record.segmentation import RECORD, load_segmentation, segmentation_text
from anystory.engine.segmenting import find_subjects, segment_into
from cli.refusals import tree
from pipelines import helpers

LEVELS = (0.2, 0.4, 0.6)


@pytest.fixture(autouse=True)
def one_look_for_each_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny picture is otherwise looked at once, at all levels together."""
    monkeypatch.setattr("anystory.pipelines.unet.segmenting._AT_ONCE", 1)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A picture to look at, alone in its folder."""
    (tmp_path / "given").mkdir()
    helpers.picture(40, 24).save(tmp_path / "given" / "scene.png")
    return tmp_path / "given" / "scene.png"


def soft(model: Any, job: Any, scene: Path, **options: Any) -> np.ndarray:
    subjects = [one.subject().read() for one in job.subjects]
    return find_subjects(model, scene, subjects, levels=LEVELS, **options)[0].soft


def test_each_look_is_told_and_the_masks_are_the_models(model, job, scene):
    told: list[StepDone] = []
    found = soft(model, job, scene, on_step=told.append, seed=3)
    assert [(step.picture, step.pictures, step.step, step.steps) for step in told] == [(1, 1, n, 3) for n in (1, 2, 3)]
    assert [step.done for step in told] == pytest.approx([1 / 3, 2 / 3, 1])
    first, second, last = (step.seconds_left for step in told)
    assert first is None
    assert second is not None
    assert second > 0
    assert last == 0
    assert all(step.preview is None for step in told)
    subjects = [one.subject().read() for one in job.subjects]
    expected, fusion = model.segment(scene, subjects, levels=LEVELS, seed=3)
    np.testing.assert_array_equal(found, expected.soft)
    encoded = [model.encode(one) for one in subjects]
    again, as_before = find_subjects(model, scene, encoded, levels=LEVELS, seed=3)
    np.testing.assert_array_equal(again.soft, expected.soft)
    assert as_before == fusion


@pytest.mark.parametrize("at", [1, 2, 3])
def test_cancelled_between_looks_nothing_is_written_and_the_next_search_is_fine(model, job, scene, tmp_path, at):
    token, told = CancelToken(), list[StepDone]()

    def listen(step: StepDone) -> None:
        told.append(step)
        if step.step == at:
            token.cancel()

    expected, processors = soft(model, job, scene), dict(model.pipe.unet.attn_processors)
    with pytest.raises(Cancelled):
        segment_into(tmp_path / "out", model, scene, job.subjects, levels=LEVELS, on_step=listen, cancel=token)
    assert [step.step for step in told] == list(range(1, at + 1)), "after the look in progress there is no other"
    assert not (tmp_path / "out").exists()
    assert model.pipe.unet.attn_processors == processors
    np.testing.assert_array_equal(soft(model, job, scene), expected)
    written = segment_into(tmp_path / "out", model, scene, job.subjects, levels=LEVELS)
    assert written.folder == tmp_path / "out" / "scene"
    assert segmentation_text(load_segmentation(written.folder / RECORD)) == segmentation_text(written.record)


def test_cancelled_while_subjects_are_encoded_no_other_is(model, job, scene, tmp_path, monkeypatch):
    token, encoded, told, encode = CancelToken(), list[Any](), list[StepDone](), model.encode

    def encode_and_cancel(subject: Any) -> Any:
        encoded.append(subject)
        token.cancel()
        return encode(subject)

    monkeypatch.setattr(model, "encode", encode_and_cancel)
    with pytest.raises(Cancelled):
        segment_into(tmp_path / "out", model, scene, job.subjects, on_step=told.append, cancel=token)
    assert (len(encoded), told) == (1, [])
    with pytest.raises(Cancelled):  # a token that was set before: no file is read
        segment_into(tmp_path / "out", model, tmp_path / "gone.png", job.subjects, cancel=token)
    assert len(encoded) == 1
    assert not (tmp_path / "out").exists()


def test_an_error_of_a_listener_ends_the_search_and_leaves_the_model_usable(model, job, scene):
    def fail(step: StepDone) -> None:
        raise RuntimeError("the listener is gone")

    expected = soft(model, job, scene)
    with pytest.raises(RuntimeError, match="the listener is gone"):
        soft(model, job, scene, on_step=fail)
    np.testing.assert_array_equal(soft(model, job, scene), expected)


@pytest.mark.parametrize("during", ["_write_pictures", "keep_references", "_finish"])
def test_interrupted_while_files_are_written_none_of_them_stays(model, job, scene, tmp_path, monkeypatch, during):
    """Ctrl-C, between the files of the folder that is to appear whole."""
    segment_into(tmp_path / "out", model, scene, job.subjects, levels=(0.3,))
    before = tree(tmp_path / "out")

    def interrupted(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"anystory.engine.segmenting.{during}", interrupted)
    for out in ("out", "new"):
        with pytest.raises(KeyboardInterrupt):
            segment_into(tmp_path / out, model, scene, job.subjects, levels=(0.3,))
    assert tree(tmp_path / "out") == before
    assert not (tmp_path / "new").exists()
