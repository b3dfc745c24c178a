"""Pictures that share their background: noise of a place wherever no subject is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from anystory.engine.backends.backgrounds import look_ahead, shared_noise
from anystory.engine.cancelling import Cancelled, CancelToken
from anystory.engine.drawing import draw, draw_into
from anystory.engine.errors import OptionError
from anystory.engine.events import StepDone
from anystory.engine.job import Job
from anystory.engine.replay import restore


def pixels(model, job, seed: int) -> np.ndarray:
    [picture] = draw(model, job, [seed])
    return np.asarray(picture.image)


def noise(model, job, seed: int, background: int) -> torch.Tensor:
    encoded = [model.encode(subject.subject()) for subject in job.subjects]
    arguments = {"prompt": job.prompt, "subjects": encoded, "num_inference_steps": 8, "guidance_scale": 4.0}
    return shared_noise(model.pipe, arguments, seed, background, lambda pipe, step, timestep, tensors: tensors)


def test_noise_is_the_places_but_for_the_subjects(model, job) -> None:
    """Regions say where the subjects are: in the left half, with a position around it."""
    left = replace(job, subjects=tuple(replace(s, settings={"region": (0.0, 0.0, 0.5, 1.0)}) for s in job.subjects))
    mixed = noise(model, left, seed=1, background=9)
    own, place = (torch.randn(mixed.shape, generator=torch.Generator().manual_seed(seed)) for seed in (1, 9))
    columns = mixed.shape[-1] // 2 + 1
    assert torch.equal(mixed[..., :columns], own[..., :columns])
    assert torch.equal(mixed[..., columns:], place[..., columns:])


def test_without_subjects_all_is_background(model, job) -> None:
    bare = Job(prompt="f")
    place = pixels(model, bare, 9)
    for seed in (1, 2):
        np.testing.assert_array_equal(pixels(model, replace(bare, background_seed=9), seed), place)


def test_it_changes_the_picture_and_both_seeds_count(model, job) -> None:
    shared = replace(job, background_seed=9)
    pictures = [pixels(model, job, 1), pixels(model, shared, 1), pixels(model, shared, 2)]
    pictures.append(pixels(model, replace(job, background_seed=8), 1))
    for i, one in enumerate(pictures):
        assert not any(np.array_equal(one, other) for other in pictures[:i])
    np.testing.assert_array_equal(pixels(model, shared, 1), pictures[1])


def test_a_record_draws_it_again(model, job, tmp_path: Path) -> None:
    [kept] = draw_into(tmp_path / "out", model, replace(job, background_seed=9), [1])
    assert kept.record.background_seed == 9
    restored = restore(tmp_path / "out" / "0001.json", trust_paths=True)
    [again] = draw_into(tmp_path / "again", model, restored.job, [restored.record.seed])
    assert restored.compare(again).same_bytes


def test_steps_are_counted_and_cancelling_works_while_subjects_are_sought(model, job) -> None:
    seen: list[StepDone] = []
    list(draw(model, replace(job, background_seed=9), [1], on_step=seen.append))
    steps = model.numbers(job).steps
    total = steps + look_ahead(steps)
    assert [(event.step, event.steps) for event in seen] == [(i + 1, total) for i in range(total)]
    token = CancelToken()
    with pytest.raises(Cancelled):
        list(draw(model, replace(job, background_seed=9), [1], on_step=lambda event: token.cancel(), cancel=token))
    np.testing.assert_array_equal(pixels(model, job, 1), pixels(model, job, 1))


@pytest.mark.parametrize(("steps", "ahead"), [(1, 1), (2, 1), (10, 3), (12, 3), (25, 7)])
def test_how_far_it_looks_ahead(steps: int, ahead: int) -> None:
    assert look_ahead(steps) == ahead


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(OptionError, match="background_seed must be 0 to 4294967295, got -1"):
        Job(prompt="f", background_seed=-1)
    with pytest.raises(OptionError, match="background_seed is for a picture from noise"):
        Job(prompt="f", background_seed=1, image=Path("a.png"))
