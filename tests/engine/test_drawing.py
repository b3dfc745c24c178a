"""Jobs drawn: what they tell meanwhile, and how they end early."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anystory.engine.cancelling import Cancelled, CancelToken
from anystory.engine.drawing import draw, draw_into, load
from anystory.engine.errors import OptionError
from anystory.engine.events import Event, PictureDone, StepDone
from anystory.engine.job import Job
from anystory.engine.options import ModelOptions
from cli.refusals import tree
from pipelines import helpers


def pixels(model, job, seeds, **options) -> list[np.ndarray]:
    return [np.asarray(picture.image) for picture in draw(model, job, seeds, **options)]


# --- what is drawn ---


def test_the_pictures_are_the_pipelines(model, job):
    [first, second] = draw(model, job, [5, 6])
    subjects = [model.pipe.encode_subjects([subject.subject()])[0] for subject in job.subjects]
    for picture, seed in ((first, 5), (second, 6)):
        expected = model.pipe("f r", subjects=subjects, generator=torch.Generator().manual_seed(seed))
        np.testing.assert_array_equal(np.asarray(picture.image), np.asarray(expected.images[0]))
        assert (picture.seed, picture.numbers.steps, picture.numbers.guidance) == (seed, 3, 4.0)
        assert picture.cutouts == (("alpha",), ("mask",))
        assert [reference.size for reference in picture.references] == [(helpers.SIZE, helpers.SIZE)] * 2
        assert picture.routing is not None
        assert picture.routing.names[0] == ("red", "blue")


def test_subjects_are_encoded_once_for_several_jobs_with_other_settings(model, job):
    encoded = [model.encode(subject.subject().read()) for subject in job.subjects]
    alone = replace(job, subjects=job.subjects[:1])
    np.testing.assert_array_equal(pixels(model, job, [5], subjects=encoded), pixels(model, job, [5]))
    np.testing.assert_array_equal(pixels(model, alone, [5], subjects=encoded[:1]), pixels(model, alone, [5]))
    weak = replace(job.subjects[0], settings={"scale": 0.2})
    changed = [encoded[0].replace(scale=0.2), encoded[1]]
    found = pixels(model, job, [5], subjects=changed)
    np.testing.assert_array_equal(found, pixels(model, replace(job, subjects=(weak, job.subjects[1])), [5]))
    assert not np.array_equal(found, pixels(model, job, [5]))


def test_several_jobs_take_turns_on_one_model(model, job, references):
    over = Job(prompt="f", image=references / "blue.png", strength=0.7)
    inside = replace(over, subjects=job.subjects, mask=references / "blue-mask.png", strength=1.0)
    first = [pixels(model, one, [1])[0] for one in (job, over, inside)]
    again = [pixels(model, one, [1])[0] for one in (inside, job, over)]
    for found, expected in zip(again, (first[2], first[0], first[1]), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_model_says_what_it_was_made_for(model):
    assert (model.limits.size_multiple, model.limits.native_size, model.limits.max_subjects) == (8, helpers.SIZE, None)


def test_a_model_says_what_a_job_will_take(model, job, references):
    over, mask = references / "blue.png", references / "blue-mask.png"
    for changes, expected in (
        ({}, (3, 4.0, None)),
        ({"steps": 7, "guidance": 1.5}, (7, 1.5, None)),
        ({"image": over}, (3, 4.0, 0.8)),
        ({"image": over, "mask": mask}, (3, 4.0, 1.0)),
        ({"image": over, "strength": 0.3}, (3, 4.0, 0.3)),
    ):
        numbers = model.numbers(replace(job, **changes))
        assert (numbers.steps, numbers.guidance, numbers.strength) == expected


# --- events ---


def test_events_come_in_order_and_each_picture_is_on_disk_before_it_is_told(model, job, tmp_path):
    told: list[Event] = []

    def listen(event: Event) -> None:
        told.append(event)
        if isinstance(event, PictureDone):
            assert event.kept.files.picture.is_file()
            assert event.kept.files.record.is_file()

    kept = draw_into(tmp_path / "out", model, job, [5, 6], on_event=listen)
    order = [(type(event), event.picture, getattr(event, "step", None)) for event in told]
    assert order == [
        *((StepDone, 1, step) for step in (1, 2, 3)), (PictureDone, 1, None),
        *((StepDone, 2, step) for step in (1, 2, 3)), (PictureDone, 2, None),
    ]  # fmt: skip
    steps = [event for event in told if isinstance(event, StepDone)]
    assert {(event.pictures, event.steps) for event in steps} == {(2, 3)}
    assert [event.done for event in steps] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    left = [event.seconds_left for event in steps]
    assert left[0] is None
    assert all(seconds is not None and seconds > 0 for seconds in left[1:-1])
    assert left[-1] == 0
    assert [event.kept for event in told if isinstance(event, PictureDone)] == kept
    assert [one.record.seed for one in kept] == [5, 6]
    assert all(event.preview is None for event in steps)


def test_previews_come_when_asked_for_and_change_nothing(model, job):
    told: list[StepDone] = []
    many = replace(job, steps=8)
    [with_previews] = pixels(model, many, [5], previews=3, on_step=told.append)
    np.testing.assert_array_equal(with_previews, pixels(model, many, [5])[0])
    assert [event.step for event in told if event.preview is not None] == [3, 6]
    assert all(event.preview.size == with_previews.shape[1::-1] for event in told if event.preview is not None)


def test_an_error_of_a_listener_ends_the_job_and_leaves_the_model_usable(model, job):
    def fail(step: StepDone) -> None:
        raise RuntimeError("the listener is gone")

    expected = pixels(model, job, [5])
    with pytest.raises(RuntimeError, match="the listener is gone"):
        pixels(model, job, [5], on_step=fail)
    np.testing.assert_array_equal(pixels(model, job, [5]), expected)


# --- cancel ---


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6])
def test_cancelled_between_steps_nothing_is_half_written_and_the_next_job_is_fine(model, job, tmp_path, at):
    out, token, seen = tmp_path / "out", CancelToken(), 0

    def listen(event: Event) -> None:
        nonlocal seen
        seen += isinstance(event, StepDone)
        if seen == at:
            token.cancel()

    whole = sorted(tree(draw_into(tmp_path / "whole", model, job, [5, 6])[0].files.picture.parent))
    with pytest.raises(Cancelled):
        draw_into(out, model, job, [5, 6], on_event=listen, cancel=token)
        token.check()  # after the last step the job is whole
    assert seen == at
    pictures = 0 if at < 3 else 1 if at < 6 else 2  # the step in progress ends; the last one's picture is written
    names = sorted(tree(out)) if out.exists() else []
    assert names == [name for name in whole if pictures and not (pictures < 2 and name.startswith("0002"))]
    [found] = pixels(model, job, [5])
    assert pictures == 0 or np.array_equal(found, np.asarray(Image.open(out / "0001.png")))


def test_a_token_that_was_cancelled_before_draws_nothing(model, job, tmp_path):
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        draw_into(tmp_path / "out", model, job, [5], cancel=token)
    assert tree(tmp_path) == {}


# --- loading ---


def test_torch_is_not_imported_before_a_model_is_loaded():
    code = (
        "import sys\n"
        "import anystory.engine.drawing, anystory.engine.replay, anystory.engine.inventory.describe\n"
        "from anystory.engine.options import ModelOptions\n"
        "assert anystory.engine.drawing.checked_backend(ModelOptions()).name == 'sdxl'\n"
        "print([name for name in ('torch', 'diffusers', 'transformers', 'numpy', 'PIL') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_what_cannot_be_loaded_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "notes").mkdir()
    for model, message in (
        ("nothing", "no model 'nothing'"),
        (str(tmp_path / "notes"), r"has no model_index\.json: expected a model folder"),
    ):
        with pytest.raises(ValueError, match=message):
            load(ModelOptions(model=model))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"device": "abacus"}, "device must be one of cpu, cuda, mps"),
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"offload": "half"}, "offload must be one of"),
        ({"offload": "model"}, "the device is cpu"),
        ({"prediction_type": "x"}, "prediction_type must be epsilon or v_prediction"),
        ({"threads": 0}, "threads must be 1 to"),
        ({"model": "m\udcff"}, "model holds bytes that are no UTF-8"),
    ],
)
def test_options_that_cannot_be(values, message):
    with pytest.raises(OptionError, match=message) as told:
        ModelOptions(**values)
    assert told.value.option in values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps must be 1 to 1000, got 0"),
        ({"steps": 1001}, "steps must be"),
        ({"strength": 0.5}, "image is missing"),
        ({"mask": Path("m.png")}, "image is missing"),
        ({"image": Path("i.png"), "strength": 1.5}, "strength must be in 0…1, got 1.5"),
        ({"width": 0}, "width must be a positive number"),
        ({"width": 10**5, "height": 10**5}, "is more than 64,000,000 pixels"),
        ({"negative_prompt": "\udcff"}, "negative_prompt holds bytes"),
    ],
)
def test_jobs_that_cannot_be(values, message):
    with pytest.raises(OptionError, match=message):
        Job(prompt="f", **values)
