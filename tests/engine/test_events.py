"""How long the rest of a job takes."""

from __future__ import annotations

from itertools import count

import pytest

from anystory.engine.events import Pace, PictureDone, StepDone
from anystory.engine.saving import Files, Kept


def test_the_first_step_tells_nothing_and_its_time_does_not_count():
    times = iter([100.0, 102.0, 106.0, 109.0])
    pace = Pace(clock=lambda: next(times))
    assert [pace.seconds_left(left) for left in (3, 2, 1, 0)] == [None, 2 * 2.0, 1 * 3.0, 0.0]


def test_a_job_of_one_step_is_done_after_it():
    assert Pace(clock=count().__next__).seconds_left(0) == 0.0


def test_events_are_values():
    step = StepDone(picture=1, pictures=2, step=3, steps=4)
    assert step == StepDone(picture=1, pictures=2, step=3, steps=4)
    assert step.done == 3 / 8
    with pytest.raises(AttributeError):
        step.step = 4  # pyright: ignore[reportAttributeAccessIssue]
    assert PictureDone.__dataclass_params__.frozen  # pyright: ignore[reportAttributeAccessIssue]
    assert Kept.__dataclass_params__.frozen  # pyright: ignore[reportAttributeAccessIssue]
    assert Files._fields == ("picture", "sheet", "record")
