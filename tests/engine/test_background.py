"""Work beside the main thread."""

from __future__ import annotations

import threading

import pytest

from anystory.engine.background import in_background


def test_a_result_and_an_error_come_to_whoever_asks():
    assert in_background(lambda: threading.current_thread().daemon).result() is True
    failed = in_background(lambda: [][0])
    with pytest.raises(IndexError):
        failed.result()
    with pytest.raises(IndexError):
        failed.result()


def test_it_goes_on_beside():
    go = threading.Event()
    work = in_background(lambda: go.wait(30))
    assert not work.done()
    go.set()
    assert work.result(30)
