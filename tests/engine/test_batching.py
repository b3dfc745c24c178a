"""Several jobs in one call: the pictures that each would get alone, but for rounding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anystory.engine.batching import BatchMember, alike, draw_batch
from anystory.engine.cancelling import Cancelled, CancelToken
from anystory.engine.drawing import draw
from anystory.engine.events import StepDone
from anystory.engine.job import Job
from anystory.engine.replay import restore
from anystory.engine.saving import keep


@pytest.fixture(scope="module")
def members(job) -> list[BatchMember]:
    """Two subjects, one of them, and two with another prompt."""
    jobs = (job, replace(job, subjects=job.subjects[1:]), replace(job, prompt="r f f"))
    return [BatchMember(one, seed, [files.subject() for files in one.subjects]) for seed, one in enumerate(jobs, 5)]


def alone(model, member: BatchMember, **options):
    [picture] = draw(model, member.job, [member.seed], **options)
    return picture


def test_a_batch_gives_what_each_job_gives_alone(model, members):
    together = draw_batch(model, members)
    for picture, member in zip(together, members, strict=True):
        expected = alone(model, member)
        apart = np.abs(np.asarray(picture.image).astype(int) - np.asarray(expected.image))
        assert apart.max() <= 1
        assert (picture.seed, picture.numbers, picture.cutouts) == (member.seed, expected.numbers, expected.cutouts)
        assert (picture.together, expected.together) == (3, 1)
        for one, other in zip(picture.references, expected.references, strict=True):
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
        assert picture.routing is not None
        assert expected.routing is not None
        assert picture.routing.names == expected.routing.names
        assert picture.routing.num_images == 1
        assert (picture.routing.steps, picture.routing.layers) == (expected.routing.steps, expected.routing.layers)
        np.testing.assert_allclose(picture.routing.maps(), expected.routing.maps(), atol=2e-3)
        np.testing.assert_array_equal(picture.routing.masks().shape, expected.routing.masks().shape)
    assert not np.array_equal(np.asarray(together[0].image), np.asarray(together[2].image))


def test_jobs_without_subjects_are_drawn_together_too(model):
    plain = [BatchMember(Job(prompt=prompt, negative_prompt="r"), 3, ()) for prompt in ("f", "f f")]
    for picture, member in zip(draw_batch(model, plain), plain, strict=True):
        apart = np.asarray(picture.image).astype(int) - np.asarray(alone(model, member).image)
        assert np.abs(apart).max() <= 1
        assert picture.routing is None


def test_what_cannot_share_a_call_is_not_alike(job, references):
    plain = Job(prompt="f")
    assert alike(plain) == alike(replace(plain, prompt="r")) is not None
    assert alike(job) == alike(replace(job, subjects=job.subjects[:1]))
    others = [replace(plain, **{name: 8}) for name in ("steps", "guidance", "width", "height")]
    others += [job, replace(plain, negative_prompt="r"), replace(plain, width=8, height=16)]
    assert len({alike(one) for one in (plain, *others)}) == len(others) + 1
    assert alike(replace(plain, image=references / "red.png")) is None
    assert alike(replace(plain, background_seed=1)) is None


def test_every_member_hears_of_its_steps_and_gets_its_own_preview(model, members):
    told: list[tuple[int, StepDone]] = []
    draw_batch(model, members, on_step=lambda number, step: told.append((number, step)), previews=3)
    assert [(number, step.step, step.steps) for number, step in told] == [
        (number, step, 3) for step in (1, 2, 3) for number in (0, 1, 2)
    ]
    shown = [step.preview for _, step in told if step.preview is not None]
    assert len(shown) == 3
    expected: list[StepDone] = []
    alone(model, members[2], on_step=expected.append, previews=3)
    assert expected[2].preview is not None
    apart = np.asarray(shown[2]).astype(int) - np.asarray(expected[2].preview)
    assert np.abs(apart).max() <= 1
    assert told[0][1].seconds_left is None
    assert told[-1][1].seconds_left == 0


def test_a_batch_ends_between_steps(model, members):
    token, seen = CancelToken(), []

    def listen(number: int, step: StepDone) -> None:
        seen.append(step.step)
        token.cancel()

    with pytest.raises(Cancelled):
        draw_batch(model, members, on_step=listen, cancel=token)
    assert seen == [1, 1, 1]
    assert draw_batch(model, members[:1])[0].together == 1


def test_a_record_says_that_a_picture_was_drawn_with_others_and_its_replay_why_it_may_differ(model, members, tmp_path):
    pictures = draw_batch(model, members)
    kept = keep(pictures[0], members[0].job, model, tmp_path)
    assert kept.record.together == 3
    replay = restore(kept.files.record, trust_paths=True)
    again = keep(alone(model, members[0]), replay.job, model, tmp_path)
    compared = replay.compare(again)
    assert compared.same_bytes or "it was drawn in one call with 2 more, which rounds differently" in compared.reasons
    other = replace(again, record=replace(again.record, picture_sha256="0" * 64))
    assert "it was drawn in one call with 2 more, which rounds differently" in replay.compare(other).reasons
