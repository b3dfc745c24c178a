"""What `inspect`, `help` and diffusers read off our pipelines: diffusers' arguments and ours, in its order."""

from __future__ import annotations

import inspect
import pydoc

import pytest

from .helpers import KINDS, stock_class

OURS = ["subjects", "unconditional", "record_routing", "use_router", "fast"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_call_shows_every_argument(kind):
    shown = inspect.signature(KINDS[kind].__call__).parameters
    *theirs, rest = inspect.signature(stock_class(KINDS[kind]).__call__).parameters.values()
    assert list(shown) == [*(one.name for one in theirs), *OURS, rest.name]
    for one in theirs:
        assert (shown[one.name].default, shown[one.name].kind) == (one.default, one.kind)
    assert {shown[name].kind for name in OURS} == {inspect.Parameter.KEYWORD_ONLY}
    text = pydoc.plain(pydoc.render_doc(KINDS[kind].__call__))
    assert "prompt: str | list[str]" in text
    assert "subjects: One list for all prompts" in text


@pytest.mark.parametrize("kind", KINDS)
def test_the_constructor_is_diffusers_and_ours(kind):
    """A component or setting that a new diffusers adds has to be written into our constructor too."""
    shown = list(inspect.signature(KINDS[kind].__init__).parameters.values())
    theirs = list(inspect.signature(stock_class(KINDS[kind]).__init__).parameters.values())
    assert [one.name for one in shown] == [*(one.name for one in theirs), "adapter", "default_call"]
    assert [one.default for one in shown] == [*(one.default for one in theirs), None, None]


@pytest.mark.parametrize("kind", KINDS)
def test_what_diffusers_may_leave_out_ours_may_too(kind):
    assert set(KINDS[kind]._optional_components) == {*stock_class(KINDS[kind])._optional_components, "adapter"}
