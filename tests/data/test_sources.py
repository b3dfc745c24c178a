"""Reading ahead: bad samples are given, errors are raised, and a dead process is reported with its samples."""

from __future__ import annotations

import os
from functools import partial

import pytest

from anystory.data.bad_samples import BadSample
from anystory.data.sources import read_ahead


def test_a_reading_process_that_dies_is_reported_with_its_samples() -> None:
    keys = [f"k{i}" for i in range(9)]
    with pytest.raises(ValueError, match=r"exit code 3\) at the samples k3 to k4\."):
        list(read_ahead(os._exit, [3, 4, 5], keys, 1, chunk=2))  # pyright: ignore[reportArgumentType]


def test_a_reading_error_is_raised_and_a_bad_sample_is_given() -> None:
    bad = BadSample("too_small", "tiny")
    found = []
    with pytest.raises(OSError, match="gone"):
        for one in read_ahead(partial(_throw, [None, bad, OSError(5, "gone")]), range(3), "abc", 0):
            found.append(one)  # noqa: PERF402
    assert found == [None, bad]
    with pytest.raises(ValueError, match="`workers` must be at least 0"):
        list(read_ahead(abs, [0], "a", -1))


def _throw(errors: list[Exception | None], index: int) -> None:
    error = errors[index]
    if error is not None:
        raise error
