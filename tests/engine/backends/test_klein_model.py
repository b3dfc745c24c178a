"""A loaded FLUX.2 klein: what a call takes by default, its steps, previews and cancelling, subjects encoded ahead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anystory.engine.backends.klein_model import KleinModel
from anystory.engine.cancelling import Cancelled, CancelToken
from anystory.engine.drawing import draw
from anystory.engine.errors import OptionError
from anystory.engine.events import StepDone
from anystory.engine.job import Job
from anystory.engine.options import ModelOptions
from cli.klein_files import KleinFiles, write_klein_files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> KleinFiles:
    return write_klein_files(tmp_path_factory.mktemp("klein"))


@pytest.fixture(scope="module")
def model(files: KleinFiles) -> KleinModel:
    return KleinModel(ModelOptions(model=str(files.distilled)))


@pytest.fixture(scope="module")
def small(job: Job) -> Job:
    return replace(job, prompt="a fox and a robot", width=96, height=64)


def test_steps_and_previews(model: KleinModel, small: Job) -> None:
    told: list[StepDone] = []
    [picture] = draw(model, small, [1], on_step=told.append, previews=4)
    assert [(step.step, step.steps) for step in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    preview = told[-1].preview
    assert preview is not None
    assert preview.size == (12, 8)  # a pixel for each position of the VAE's own latents, width first
    assert picture.routing is None
    assert [one.size for one in picture.references] == [(64, 64)] * 2
    latents = model.pipe(
        **model.start(small, [subject.subject() for subject in small.subjects]).arguments,
        generator=torch.Generator().manual_seed(1),
        output_type="latent",
    ).images[0]  # after the last step, unpacked and as the VAE decodes them
    np.testing.assert_array_equal(np.asarray(preview), np.asarray(model._latent_colours()(latents)))


def test_a_cancelled_job_leaves_the_model_usable(model: KleinModel, small: Job) -> None:
    [expected] = draw(model, small, [5])
    token, processors = CancelToken(), dict(model.pipe.transformer.attn_processors)
    with pytest.raises(Cancelled):
        list(draw(model, small, [5], on_step=lambda step: token.cancel(), cancel=token))
    assert dict(model.pipe.transformer.attn_processors) == processors
    encoded = [model.encode(subject.subject()) for subject in small.subjects]
    [again] = draw(model, small, [5], subjects=encoded)
    np.testing.assert_array_equal(np.asarray(again.image), np.asarray(expected.image))


def test_what_a_call_takes_by_default(files: KleinFiles, model: KleinModel, tmp_path: Path) -> None:
    base = KleinModel(ModelOptions(model=str(files.base)))
    numbers = [one.numbers(Job(prompt="a")) for one in (model, base)]
    assert [(found.steps, found.guidance, found.strength) for found in numbers] == [(4, 1.0, None), (50, 4.0, None)]
    asked = base.numbers(Job(prompt="a", steps=7, guidance=2.0))
    assert (asked.steps, asked.guidance) == (7, 2.0)
    assert (model.limits.size_multiple, model.limits.native_size, model.limits.max_subjects) == (16, 1024, 4)
    call = model.start(Job(prompt="a"), [])
    assert (call.arguments["width"], call.arguments["height"]) == (1024, 1024)
    model.start(Job(prompt="a", guidance=1.0), [])  # as its records say
    with pytest.raises(OptionError, match="guidance has no effect on this model"):
        model.start(Job(prompt="a", guidance=3.5), [])
    Image.new("RGB", (2000, 1000)).save(tmp_path / "wide.png")
    over = model.start(Job(prompt="a", image=tmp_path / "wide.png"), [])
    assert over.arguments["image"].size == (1456, 720)
    assert over.arguments["strength"] == 0.8
    Image.new("RGB", (1880, 1130)).save(tmp_path / "rounded.png")  # 1328 × 800 would be too many
    width, height = model.start(Job(prompt="a", image=tmp_path / "rounded.png"), []).arguments["image"].size
    assert width * height <= 1024**2
    with pytest.raises(OptionError, match="2048×1024 is more than 1,048,576 pixels"):
        model.start(Job(prompt="a", image=tmp_path / "wide.png", width=2048, height=1024), [])


def test_what_it_does_not_draw_is_refused_from_python_too(model: KleinModel, small: Job) -> None:
    for changes, message in (
        ({"width": 72}, "width must be a multiple of 16"),
        ({"negative_prompt": "x"}, "negative_prompt is not for FLUX.2 klein"),
        ({"isolation": "some"}, "isolation must be one of off, on, strict"),
    ):
        with pytest.raises(OptionError, match=message):
            list(draw(model, replace(small, **changes), [1]))
    with pytest.raises(ValueError, match="draws one picture in a call"):
        model.start_batch([small, small], [[], []])


def test_every_file_is_hashed(model: KleinModel, files: KleinFiles) -> None:
    assert sum(name.endswith(".safetensors") for name in model.weights) == 3
