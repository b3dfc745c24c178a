"""A small book, laid out once."""

from __future__ import annotations

import pytest

from anystory.story.book.lettering.typefaces import Typefaces
from anystory.story.book.pages.page import LaidOutBook, PageLayout, lay_out
from story.book.books import book


@pytest.fixture(scope="session")
def laid_out() -> LaidOutBook:
    """A cover and pages with two panels and with one."""
    return lay_out(book(), PageLayout(templates=("two", "full")), Typefaces("en", system=False))


@pytest.fixture(scope="session")
def backwards() -> LaidOutBook:
    """The same for a language that is written from right to left, in Latin letters."""
    return lay_out(book(language="he"), PageLayout(templates=("two", "full")), Typefaces("he", system=False))
