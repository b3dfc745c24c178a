"""A loaded FLUX.1: what a call takes by default, its steps, previews and cancelling, subjects encoded ahead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from anystory.engine.backends.flux_model import FluxModel
from anystory.engine.cancelling import Cancelled, CancelToken
from anystory.engine.drawing import draw
from anystory.engine.errors import OptionError
from anystory.engine.events import StepDone
from anystory.engine.job import Job
from anystory.engine.options import ModelOptions
from cli.flux_files import CALL, FluxFiles, write_flux_files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> FluxFiles:
    return write_flux_files(tmp_path_factory.mktemp("flux"))


@pytest.fixture(scope="module")
def model(files: FluxFiles) -> FluxModel:
    """With values of its own: 4 steps of 96 × 64 pixels."""
    return FluxModel(ModelOptions(model=str(files.whole)))


def test_steps_previews_and_the_time_left(model: FluxModel, job: Job) -> None:
    told: list[StepDone] = []
    pictures = list(draw(model, job, [1, 2], on_step=told.append, previews=2))
    assert [(step.picture, step.step, step.steps) for step in told] == [(n, s, 4) for n in (1, 2) for s in (1, 2, 3, 4)]
    assert told[0].seconds_left is None
    assert all(step.seconds_left is not None for step in told[1:])
    assert told[-1].seconds_left == 0
    assert [step.preview is not None for step in told] == [False, True] * 4
    small = [step.preview for step in told if step.preview is not None]
    assert {preview.size for preview in small} == {(12, 8)}  # a pixel for each latent position, width first
    for picture in pictures:
        assert picture.routing is not None
        assert len(picture.references) == 2
        assert picture.cutouts == (("alpha",), ("mask",))


def test_a_preview_shows_the_colours_of_the_picture_at_the_end(model: FluxModel, job: Job) -> None:
    """The last step's latents are the picture's: its colours, as far as they are linear in the tiny autoencoder."""
    told: list[StepDone] = []
    [picture] = draw(model, job, [1], on_step=told.append, previews=4)
    preview = told[-1].preview
    assert preview is not None
    packed = model.pipe(
        job.prompt, subjects=[model.encode(subject.subject()) for subject in job.subjects], output_type="latent",
        generator=torch.Generator().manual_seed(1), max_sequence_length=12,
    ).images  # fmt: skip
    latents = model.pipe._unpack_latents(packed, 64, 96, model.pipe.vae_scale_factor)[0]
    np.testing.assert_array_equal(np.asarray(preview), np.asarray(model._latent_colours()(latents)))
    assert picture.image.size == (96, 64)


def test_a_cancelled_job_leaves_the_model_usable(model: FluxModel, job: Job) -> None:
    [expected] = draw(model, job, [5])
    token, processors = CancelToken(), dict(model.pipe.transformer.attn_processors)
    with pytest.raises(Cancelled):
        list(draw(model, job, [5], on_step=lambda step: token.cancel(), cancel=token))
    assert dict(model.pipe.transformer.attn_processors) == processors
    [again] = draw(model, job, [5])
    np.testing.assert_array_equal(np.asarray(again.image), np.asarray(expected.image))


def test_subjects_encoded_ahead_draw_the_same(model: FluxModel, job: Job) -> None:
    [expected] = draw(model, job, [5])
    encoded = [model.encode(subject.subject()) for subject in job.subjects]
    [found] = draw(model, job, [5], subjects=encoded)
    np.testing.assert_array_equal(np.asarray(found.image), np.asarray(expected.image))
    assert found.cutouts == expected.cutouts


def test_the_references_of_a_job_are_computed_for_its_first_picture(
    model: FluxModel, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anystory.models.flux.reference_keys import ReferenceKeys

    kept = []
    keep = ReferenceKeys.keep
    monkeypatch.setattr(ReferenceKeys, "keep", lambda self, *given: kept.append(given[1]) or keep(self, *given))
    first, second = (len(kept) for _ in draw(model, job, [1, 2]))
    assert first == second == 2 * 4  # subjects and layers


def test_what_a_call_takes_by_default(files: FluxFiles, model: FluxModel) -> None:
    dev, schnell = (FluxModel(ModelOptions(model=str(place))) for place in (files.base, files.schnell))
    numbers = [one.numbers(Job(prompt="a")) for one in (model, dev, schnell)]
    assert [(found.steps, found.guidance) for found in numbers] == [
        (CALL["num_inference_steps"], 3.5),
        (28, 3.5),
        (4, 0.0),
    ]
    asked = Job(prompt="a", steps=7, guidance=2.0)
    assert (dev.numbers(asked).steps, dev.numbers(asked).guidance) == (7, 2.0)
    limits = [(one.limits.size_multiple, one.limits.native_size, one.limits.max_subjects) for one in (model, dev)]
    assert limits == [(16, 1024, None), (16, 1024, 0)]
    sizes = [one.start(Job(prompt="a"), []).arguments for one in (model, dev)]
    assert [(size["width"], size["height"]) for size in sizes] == [(96, 64), (1024, 1024)]
    assert {size["max_sequence_length"] for size in sizes} == {12}  # the tokenizer's
    with pytest.raises(OptionError, match="guidance has no effect on this model"):
        schnell.start(Job(prompt="a", guidance=3.5), [])
    schnell.start(Job(prompt="a", guidance=0.0), [])  # as its records say


def test_what_it_does_not_draw_is_refused_from_python_too(model: FluxModel, job: Job) -> None:
    for changes, message in (({"width": 72}, "width must be a multiple of 16"), ({"negative_prompt": "x"}, "true CFG")):
        with pytest.raises(OptionError, match=message):
            list(draw(model, replace(job, **changes), [1]))


def test_words_that_a_small_model_does_not_know(model: FluxModel) -> None:
    assert [word.word for word in model.unknown_words("a fox and a unicorn")] == ["unicorn"]


def test_every_file_is_hashed(model: FluxModel, files: FluxFiles) -> None:
    weights = list(Path(files.whole).rglob("*.safetensors"))
    assert len(weights) == sum(name.endswith(".safetensors") for name in model.weights)
