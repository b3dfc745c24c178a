"""A pipeline draws one call at a time: a second one is refused, and spoils nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from anystory import AnyStoryImg2ImgPipeline, AnyStoryPipeline, Subject

from .. import helpers


def draw(pipe: Any, *subjects: Any, **given: Any) -> np.ndarray:
    """Two steps from a fixed seed."""
    given = {"num_inference_steps": 2, "output_type": "np"} | given
    return pipe("f", subjects=list(subjects), generator=torch.Generator().manual_seed(0), **given).images[0]


@pytest.fixture
def pipe() -> AnyStoryPipeline:
    return helpers.pipeline("mini")


@pytest.fixture
def subject() -> Subject:
    return helpers.subject()


def meanwhile(pipe: Any, subject: Any, second: Callable[[], Any]) -> tuple[np.ndarray, list[Any]]:
    """Draw in a thread, call `second` in this one between the two steps; the picture, and what `second` raised."""
    inside, go_on = threading.Event(), threading.Event()
    drawn: list[np.ndarray] = []

    def wait(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        inside.set()
        assert go_on.wait(30)
        return tensors

    thread = threading.Thread(target=lambda: drawn.append(draw(pipe, subject, callback_on_step_end=wait)))
    thread.start()
    raised = []
    try:
        assert inside.wait(30)
        second()
    except RuntimeError as error:
        raised.append(error)
    finally:
        go_on.set()
        thread.join()
    return drawn[0], raised


SECOND = {
    "the same pipeline": lambda pipe, subject: draw(pipe, subject),
    "without subjects": lambda pipe, subject: draw(pipe),
    "one on the same parts": lambda pipe, subject: draw(
        AnyStoryImg2ImgPipeline.from_pipe(pipe), subject, image=torch.zeros(1, 3, helpers.SIZE, helpers.SIZE)
    ),
    "encoding subjects": lambda pipe, subject: pipe.encode_subjects([subject]),
}


@pytest.mark.parametrize("second", SECOND.values(), ids=SECOND)
def test_a_second_thread_is_refused_and_spoils_nothing(pipe, subject, second):
    expected = draw(pipe, subject)
    drawn, raised = meanwhile(pipe, subject, lambda: second(pipe, subject))
    assert len(raised) == 1
    assert "draws one call at a time" in str(raised[0])
    np.testing.assert_array_equal(drawn, expected)
    np.testing.assert_array_equal(draw(pipe, subject), expected)  # and it is free again


def test_pipelines_of_their_own_draw_at_the_same_time(pipe, subject):
    other = helpers.pipeline("mini")
    expected = draw(pipe, subject)
    second: list[np.ndarray] = []
    drawn, raised = meanwhile(pipe, subject, lambda: second.append(draw(other, subject)))
    assert not raised
    np.testing.assert_array_equal(drawn, expected)
    np.testing.assert_array_equal(second[0], expected)


def test_a_call_inside_a_callback_is_refused(pipe, subject):
    def again(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        draw(pipe, subject)
        return tensors

    with pytest.raises(RuntimeError, match="AnyStoryPipeline: its AnyStoryPipeline is in use"):
        draw(pipe, subject, callback_on_step_end=again)


def test_a_failed_call_frees_the_pipeline(pipe, subject):
    def fail(*args: Any) -> Any:
        raise KeyError("mine")

    expected = draw(pipe, subject)
    with pytest.raises(KeyError, match="mine"):
        draw(pipe, subject, callback_on_step_end=fail)
    with pytest.raises(ValueError, match="num_inference_steps"):
        draw(pipe, subject, num_inference_steps=-1)
    np.testing.assert_array_equal(draw(pipe, subject), expected)
