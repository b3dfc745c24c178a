"""Books laid out on pages."""

from __future__ import annotations

import pytest

from anystory.story.book.contents import Line, PanelArt, is_right_to_left
from anystory.story.book.lettering.placing import TextDoesNotFitError
from anystory.story.book.pages.page import PageLayout, lay_out
from story.book.books import book, panel

LONG = "Have you seen my umbrella over there near the old harbour where it always rains so very much? " * 7


def counts(pages) -> list[int]:
    return [len(page.panels) for page in pages]


@pytest.mark.parametrize("count", range(1, 14))
@pytest.mark.parametrize("name", ["auto", "full", "three", "six", "strip", "webtoon"])
def test_every_panel_is_on_a_page_once_and_in_order(count, name) -> None:
    panels = [panel(number) for number in range(1, count + 1)]
    pages = lay_out(book(*panels), PageLayout(templates=(name,), cover=False)).pages
    assert [one.panel.number for page in pages for one in page.panels] == list(range(1, count + 1))
    assert [page.label for page in pages] == [str(number) for number in range(1, len(pages) + 1)]


def test_templates_in_turn_the_last_for_the_rest() -> None:
    panels = [panel(number) for number in range(1, 10)]
    laid_out = lay_out(book(*panels), PageLayout(templates=("full", "three", "two"), cover=False))
    assert counts(laid_out.pages) == [1, 3, 2, 2, 1]


def test_auto_gives_long_texts_larger_panels() -> None:
    panels = [panel(number) for number in range(1, 5)]
    assert counts(lay_out(book(*panels), PageLayout(cover=False)).pages) == [4]
    wordy = [panels[0], panel(2, ("fox", LONG)), *panels[2:]]
    pages = lay_out(book(*wordy), PageLayout(cover=False)).pages
    assert sum(counts(pages)) == 4
    assert len(pages) > 1
    with pytest.raises(TextDoesNotFitError, match="panel 2: line 1"):
        lay_out(book(*wordy), PageLayout(templates=("six",), cover=False))
    with pytest.raises(TextDoesNotFitError, match="panel 2: line 1"):
        lay_out(book(panels[0], panel(2, ("fox", LONG * 9))), PageLayout(cover=False))


def test_the_cover_has_title_author_and_the_first_picture() -> None:
    cover, *_ = lay_out(book(), PageLayout()).pages
    assert cover.label == "Cover"
    assert [words.text for words in cover.words] == ["Fox & <Robot>", "A. Writer"]
    title, author = cover.words
    assert not title.box.overlaps(cover.panels[0].frame)
    assert author.box.y > cover.panels[0].frame.bottom
    assert cover.panels[0].words == ()
    with pytest.raises(TextDoesNotFitError, match="cover"):
        lay_out(book(title="word " * 900), PageLayout())


@pytest.mark.parametrize(("size", "page"), [((48, 48), (576, 576)), ((36, 52), (432, 648)), ((64, 48), (648, 432))])
def test_pages_have_the_shape_of_the_pictures(size, page) -> None:
    laid_out = lay_out(book(panel(1, size=size)), PageLayout(cover=False))
    assert (laid_out.pages[0].width, laid_out.pages[0].height) == page


def test_the_direction_is_the_languages_unless_it_is_given() -> None:
    panels = [panel(number) for number in range(1, 5)]
    cases = [("en", None, False), ("he", None, True), ("ja", True, True), ("ar", False, False)]
    for language, chosen, expected in cases:
        layout = PageLayout(cover=False, right_to_left=chosen)
        laid_out = lay_out(book(*panels, language=language), layout)
        first, second = (one.frame for one in laid_out.pages[0].panels[:2])
        assert (first.x > second.x, laid_out.right_to_left) == (expected, expected)


@pytest.mark.parametrize(
    ("language", "expected"),
    [("ar", True), ("he-IL", True), ("fa", True), ("az-Arab", True), ("ku-Latn", False), ("en", False), ("ja", False)],
)
def test_languages_from_right_to_left(language, expected) -> None:
    assert is_right_to_left(language) is expected


def test_what_is_wrong_is_refused() -> None:
    with pytest.raises(ValueError, match="no page template 'nine'"):
        PageLayout(templates=("nine",))
    with pytest.raises(ValueError, match="smallest ≤ largest"):
        PageLayout(smallest=12, largest=8)
    with pytest.raises(ValueError, match="`page` must be one of"):
        PageLayout(page="round")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`text` is empty"):
        Line(text="  ")
    with pytest.raises(ValueError, match="`kind` must be one of"):
        Line(text="a", kind="song")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`colour` must be like"):
        Line(text="a", colour="red")
    with pytest.raises(ValueError, match="panel 1: the mask of 'fox'"):
        PanelArt(number=1, picture=panel(1).picture.resize((9, 9)), masks=panel(1).masks)
    with pytest.raises(ValueError, match="no panels"):
        book().__class__(title="x", panels=())
